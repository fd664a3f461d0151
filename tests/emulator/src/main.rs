//! The emulator as a program: starts it, says where it listens, stops at Ctrl-C.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{ArgAction, Parser};
use graph_emulator::{
    CONFIDENTIAL_CLIENT, CONFIDENTIAL_SECRET, Emulator, Listen, Options, Profile, Settings,
};

/// Microsoft Graph's OneDrive and its sign-in, emulated.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each flag is one option of the command line"
)]
#[derive(Debug, Parser)]
#[command(name = "graph-emulator", version)]
struct Args {
    /// Which OneDrive.
    #[arg(long, value_enum, default_value_t = Profile::Business)]
    profile: Profile,
    /// Address of the login host.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    listen_login: SocketAddr,
    /// Address of the Graph host.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    listen_graph: SocketAddr,
    /// Address of the storage host.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    listen_storage: SocketAddr,
    /// Address of the control interface, always plain HTTP.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    listen_control: SocketAddr,
    /// Serve all three hosts on this port of 127.0.0.1 under their public names.
    #[arg(long, value_name = "PORT")]
    hosts_mode: Option<u16>,
    /// HTTPS with an authority of its own.
    #[arg(long, overrides_with = "no_tls", action = ArgAction::SetTrue)]
    tls: bool,
    /// Plain HTTP (the default).
    #[arg(long, action = ArgAction::SetTrue)]
    no_tls: bool,
    /// Where the authority's certificate is written.
    #[arg(long, value_name = "FILE")]
    ca_out: Option<PathBuf>,
    /// Milliseconds added to every request.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    latency: u64,
    /// The storage host overlooks tokens, as it did for clients of 2022.
    #[arg(long)]
    storage_takes_tokens: bool,
    /// Changes tell the path of an item's folder, as older clients expect it.
    #[arg(long)]
    delta_tells_paths: bool,
    /// Device codes approve themselves at the first poll; the sign-in page always does.
    #[arg(long)]
    auto_approve: bool,
    /// Show the sign-in page and wait for a click.
    #[arg(long, conflicts_with = "auto_approve")]
    ask: bool,
}

impl Args {
    fn options(self) -> Options {
        let mut settings = Settings {
            latency_ms: self.latency,
            ..Settings::default()
        };
        settings.auto_approve = !self.ask;
        settings.storage_takes_tokens = self.storage_takes_tokens;
        settings.delta_tells_paths = self.delta_tells_paths;
        settings.device_approved_at_poll = u32::from(self.auto_approve);
        Options {
            profile: self.profile,
            tls: self.tls && !self.no_tls,
            listen: Listen {
                login: self.listen_login,
                graph: self.listen_graph,
                storage: self.listen_storage,
                control: self.listen_control,
                public: self
                    .hosts_mode
                    .map(|port| SocketAddr::from(([127, 0, 0, 1], port))),
            },
            ca_out: self.ca_out,
            settings,
            ..Options::default()
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("graph-emulator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let emulator = Emulator::start(args.options()).await?;
    println!(
        "{}",
        serde_json::json!({
            "login": emulator.login_url(),
            "graph": emulator.graph_url(),
            "storage": emulator.storage_url(),
            "control": emulator.control_url(),
            "profile": emulator.profile(),
            "drive_id": emulator.drive_id(),
            "confidential_client": CONFIDENTIAL_CLIENT,
            "confidential_secret": CONFIDENTIAL_SECRET,
        })
    );
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("cannot wait for SIGTERM")?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for Ctrl-C")?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
