//! Threads, and what they share and wait for: the system's own.
//!
//! With the feature `schedules`, which nothing that is shipped has, they are those of a scheduler that
//! [tries](tried) one order of steps after the other. What must not deadlock or miss a wake-up in any
//! order takes them from here: the committer, the contents, and what the kernel is told.

#[cfg(feature = "schedules")]
pub(crate) mod tried;

#[cfg(not(feature = "schedules"))]
pub(crate) use own::{Condvar, Mutex, RwLock, atomic, mpsc, thread};
#[cfg(feature = "schedules")]
pub(crate) use tried::{Condvar, Mutex, RwLock, atomic, mpsc, thread};

#[cfg(not(feature = "schedules"))]
mod own {
    pub(crate) use std::sync::{atomic, mpsc};
    pub(crate) use std::thread;

    pub(crate) use parking_lot::{Condvar, Mutex, RwLock};
}
