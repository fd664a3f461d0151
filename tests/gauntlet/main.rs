//! The gates of the reliability gauntlet, against the real daemon on a real mount.

mod g6;
