//! graph_emulator.
fn main() {}
