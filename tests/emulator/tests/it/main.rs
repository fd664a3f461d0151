//! The emulator through its own front door: HTTP requests as any client would send them.

mod client;
mod control;
mod delta;
mod drives;
mod faults;
mod items;
mod names;
mod opendal;
mod push;
mod quirks;
mod signin;
mod storage;
mod uploads;
