//! `tuyunfs` through its public face: a real mount over an emulated `OneDrive`.

mod files;
mod messages;
mod names;
mod notify;
mod parked;
mod passthrough;
mod programs;
mod push;
mod remote;
mod requests;
mod restart;
mod room;
mod sign_in;
