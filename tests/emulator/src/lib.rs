//! graph_emulator.
