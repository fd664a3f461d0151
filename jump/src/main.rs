//! tuyun_jump.
fn main() {}
