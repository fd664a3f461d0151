//! The gates of the reliability gauntlet, against the real daemon on a real mount.

mod g1;
mod g12;
mod g3;
mod g4;
mod g6;
mod g9;
mod work;
