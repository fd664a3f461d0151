//! tuyun_edge.
fn main() {}
