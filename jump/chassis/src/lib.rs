//! How a daemon of ours lives: it reads its settings, says what it does, serves, and leaves in time.
//!
//! Nothing here knows what is served. The manual pages of all three programs say the same about
//! these things, and that is the test for what belongs here.
//!
//! - [`settings`]: one file, one environment prefix and one flag a key, in that order of weight.
//! - [`exit`]: what a failure costs the process, and what its reader should do next.
//! - [`log`], [`start`], [`stop`], [`notify`]: the process and its supervisor.
//! - [`program`]: all of the above as the command line of a daemon that only serves.
//! - [`http`] (feature `http`): listener, limits, client address, bearer tokens, health.

pub mod exit;
#[cfg(feature = "http")]
pub mod http;
pub mod log;
pub mod notify;
pub mod program;
pub mod settings;
pub mod start;
pub mod stop;
