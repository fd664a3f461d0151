//! Everything a test from outside needs: the three programs as processes, an emulated OneDrive, a
//! real Redis, a real mount, and a way to wait for something to become true.
//!
//! A test that cannot run where it is (no root, no `/dev/fuse`, no PHP) is skipped by name, and
//! fails under `CI`, where such a skip would be a test that was never run.

pub mod browser;
pub mod cloud;
pub mod disk;
pub mod fleet;
pub mod gate;
pub mod http;
pub mod mount;
pub mod needs;
pub mod php;
pub mod process;
pub mod redis;
pub mod wait;
