//! tuyunfs.
fn main() {}
