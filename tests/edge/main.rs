//! `tuyun-edge` through its public face: a really started node before an origin that follows a
//! script, with a jump that takes heartbeats.

mod admin;
mod caps;
mod changes;
mod fills;
mod heartbeats;
mod hits;
mod node;
mod origin;
mod outage;
mod page;
mod paths;
mod redirects;
mod restart;
mod shortcut;
