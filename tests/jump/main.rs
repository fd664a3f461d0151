//! jump.
