//! Microsoft Graph's OneDrive and its sign-in, emulated.
//!
//! Three hosts as the service has them: a login host (authorization code with PKCE, device code,
//! refresh, client credentials), the Graph host (drives, items, children, delta, upload sessions,
//! batches) and a storage host behind pre-authenticated URLs, which refuses any request that
//! carries a token. Five profiles stand for the back ends behind the API; faults make single
//! requests go wrong; a control listener lets a test act as another client and look inside.
//!
//! It follows what the service is documented and observed to do, and knows nothing of any client.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use graph_emulator::{Emulator, Fault, Options, Profile, Route};
//!
//! let emulator = Emulator::start(Options::new(Profile::Business)).await?;
//! let token = emulator.issue_token("my-client");
//! emulator.put_file("pictures/a.png", b"bytes")?;
//! emulator.inject(Fault::status(Route::Delta, 503).retry_after(2));
//! println!("{} {}", emulator.graph_url(), token.access_token);
//! # Ok(())
//! # }
//! ```

mod act;
mod certs;
mod clock;
mod content;
mod control;
mod delta;
mod faults;
mod ids;
mod log;
mod names;
mod options;
mod profile;
mod refusal;
mod render;
mod route;
mod routes;
mod running;
mod serve;
mod session;
mod settings;
mod signin;
mod store;
mod storm;
mod wire;
mod world;

pub use faults::{Act, Fault, Often, Reply, ReplyBody};
pub use log::{Entry, Host};
pub use options::{CONFIDENTIAL_CLIENT, CONFIDENTIAL_SECRET, Client, Listen, Options};
pub use profile::Profile;
pub use route::Route;
pub use running::{Emulator, Node, NodeKind, Running, TokenPair, VersionInfo};
pub use settings::Settings;
pub use store::Mark;
pub use storm::storm;
