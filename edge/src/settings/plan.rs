//! From settings to what the program works with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tuyun_chassis::exit::{Code, Explain};
use tuyun_chassis::http::{Bearer, TlsFiles, TrustedProxies};
use tuyun_chassis::settings::{SecretError, SettingsError, Size, read_secret};
use tuyun_protocol::{Base, Labels, NodeId, Report, Token};
use url::Host;

use super::{Auth, Settings, Transform};
use crate::cache::Budget;
use crate::traffic::Caps;

/// Faster than this, heartbeats are only noise: jump itself allows five updates a second and
/// address, and a lease counts in whole seconds.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// Slower than this, a node is forgotten between two beats: jump keeps none longer than 1200 s.
const LONGEST_INTERVAL: Duration = Duration::from_mins(5);

/// The formats a variant can have.
const FORMATS: [&str; 4] = ["avif", "webp", "jpeg", "png"];

/// What the program works with.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where visitors come in.
    pub listen: String,
    /// The certificate, if any.
    pub tls: Option<TlsFiles>,
    /// This node's name.
    pub id: NodeId,
    /// The origin's bases, the primary first.
    pub origin: Vec<Base>,
    /// The token for the primary.
    pub origin_token: Option<Token>,
    /// New pictures are fetched before somebody asks.
    pub prefetch: bool,
    /// Where the cache lies.
    pub cache_dir: PathBuf,
    /// How large it may be.
    pub budget: Budget,
    /// How much of it is kept in memory as well.
    pub memory_bytes: u64,
    /// Whom to tell, if anybody.
    pub jump: Option<JumpPlan>,
    /// Who may purge.
    pub admin: Bearer,
    /// Requests a second and address.
    pub per_second: u32,
    /// How much may go out.
    pub caps: Caps,
    /// Whose word about addresses is believed.
    pub proxies: TrustedProxies,
    /// The operator's listener, if any.
    pub control: Option<String>,
    /// Variants were asked for by name, and this build makes none.
    pub transform_missing: bool,
}

/// Whom to tell that this node is alive, and how.
#[derive(Clone, Debug)]
pub struct JumpPlan {
    /// The jumps.
    pub bases: Vec<Base>,
    /// How a heartbeat proves who sent it.
    pub auth: Auth,
    /// With what.
    pub token: Token,
    /// How often.
    pub interval: Duration,
    /// Where visitors find this node; `None` for "auto".
    pub url: Option<Base>,
    /// What else it says of itself.
    pub report: Report,
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A value, or two that do not go together.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A token file.
    #[error("setting `{key}`: {error}")]
    Secret {
        /// The setting.
        key: &'static str,
        /// What is wrong with its file.
        error: SecretError,
    },
}

impl Explain for PlanError {
    fn code(&self) -> Code {
        match self {
            Self::Settings(error) => error.code(),
            Self::Secret { error, .. } => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Settings(error) => error.hint(),
            Self::Secret { error, .. } => error.hint(),
        }
    }
}

impl Plan {
    /// Reads the settings closely, and the token files they name.
    ///
    /// # Errors
    /// Something cannot work.
    pub fn from_settings(settings: &Settings) -> Result<Self, PlanError> {
        let tls =
            TlsFiles::from_settings(&settings.tls.cert, &settings.tls.key).map_err(|problem| {
                unusable("tls", problem, "set both tls.cert and tls.key, or none")
            })?;
        let id = NodeId::parse(&settings.server_id).map_err(|error| {
            unusable(
                "server_id",
                error.to_string(),
                "use 1 to 64 letters, digits, `_` or `-`",
            )
        })?;
        let (origin, origin_token) = origin(settings)?;
        let cache = &settings.cache;
        if cache.dir.is_empty() {
            let advice = "set it to a directory that the service may write to";
            return Err(unusable("cache.dir", "it is empty", advice).into());
        }
        let budget = Budget {
            max_bytes: cache.max_size.bytes(),
            max_age: cache.max_age.get(),
        };
        let admin = Bearer::from_token_file(&settings.admin.token_file).map_err(|error| {
            PlanError::Secret {
                key: "admin.token_file",
                error,
            }
        })?;
        let proxies = TrustedProxies::parse(&settings.limit.trusted_proxies).map_err(|error| {
            let advice = "list the addresses of your own proxies, such as \"127.0.0.1\"";
            unusable("limit.trusted_proxies", error.to_string(), advice)
        })?;
        check_transform(settings)?;
        Ok(Self {
            listen: settings.listen.clone(),
            tls,
            id,
            origin,
            origin_token,
            prefetch: settings.origin.prefetch,
            cache_dir: cache.dir.clone().into(),
            budget,
            memory_bytes: cache.memory.bytes(),
            jump: jump(settings)?,
            admin,
            per_second: settings.limit.per_second,
            caps: Caps {
                per_day: some(settings.limit.traffic_per_day),
                per_month: some(settings.limit.traffic_per_month),
            },
            proxies,
            control: Some(settings.control.listen.clone()).filter(|listen| !listen.is_empty()),
            transform_missing: settings.transform.enabled == Transform::On,
        })
    }
}

fn origin(settings: &Settings) -> Result<(Vec<Base>, Option<Token>), PlanError> {
    let origin = &settings.origin;
    if origin.primary.is_empty() {
        let advice = "set it to where tuyunfs serves, such as \"https://image-server:7200/\"";
        return Err(unusable("origin.primary", "it is not set", advice).into());
    }
    let primary = base("origin.primary", &origin.primary)?;
    let token = token("origin.token_file", &origin.token_file)?;
    if token.is_some() && travels_openly(&primary) && !origin.insecure {
        let problem = "the token would travel over plain http, readable on the way";
        let advice = "use an https:// address, leave origin.token_file empty, or accept it with origin.insecure = true";
        return Err(unusable("origin.primary", problem, advice).into());
    }
    let mut bases = vec![primary];
    for backup in &origin.backup {
        bases.push(base("origin.backup", backup)?);
    }
    Ok((bases, token))
}

fn jump(settings: &Settings) -> Result<Option<JumpPlan>, PlanError> {
    let jump = &settings.jump;
    if jump.urls.is_empty() {
        return Ok(None);
    }
    let bases: Vec<_> = jump
        .urls
        .iter()
        .map(|url| base("jump.urls", url))
        .collect::<Result<_, _>>()?;
    let Some(token) = token("jump.token_file", &jump.token_file)? else {
        let advice = "set it to a file with the token that jump has for this node";
        return Err(unusable(
            "jump.token_file",
            "jump.urls is set, but there is no token",
            advice,
        )
        .into());
    };
    if jump.auth == Auth::Token && !jump.insecure && bases.iter().any(travels_openly) {
        let problem = "the token would travel over plain http, readable on the way";
        let advice = "use an https:// address, jump.auth = \"signed\" with a tuyun-jump, or accept it with jump.insecure = true";
        return Err(unusable("jump.urls", problem, advice).into());
    }
    let interval = jump.interval.get();
    if !(SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(&interval) {
        let advice = "5s is usual; jump forgets a node after four times as long";
        return Err(unusable("jump.interval", "it is not between 1s and 5m", advice).into());
    }
    if jump.capacity > 0 && !Report::can_carry(jump.capacity) {
        let advice = "set it to what the line can send, in Mbit/s, or to 0";
        return Err(unusable("jump.capacity", "it is more than a line can carry", advice).into());
    }
    let url = match settings.url.as_str() {
        "auto" if jump.auth == Auth::Token => {
            let advice =
                "set it to where visitors find this node, such as \"https://me.example:45678/\"";
            return Err(unusable("url", "\"auto\" needs jump.auth = \"signed\"", advice).into());
        }
        "auto" => None,
        url => Some(base("url", url)?),
    };
    Ok(Some(JumpPlan {
        bases,
        auth: jump.auth,
        token,
        interval,
        url,
        report: Report {
            capacity: Some(jump.capacity).filter(|mbits| *mbits > 0),
            labels: Labels::new(&jump.isp, &jump.province, &jump.country),
            ..Report::default()
        },
    }))
}

fn check_transform(settings: &Settings) -> Result<(), PlanError> {
    let transform = &settings.transform;
    if let Some(odd) = transform
        .formats
        .iter()
        .find(|name| !FORMATS.contains(&name.as_str()))
    {
        let problem = format!("`{odd}` is no format");
        return Err(unusable("transform.formats", problem, "use avif, webp, jpeg, png").into());
    }
    if transform.widths.contains(&0) {
        return Err(unusable("transform.widths", "a width is 0", "use widths in pixels").into());
    }
    Ok(())
}

/// An amount, where 0 stands for none.
fn some(size: Size) -> Option<u64> {
    Some(size.bytes()).filter(|bytes| *bytes > 0)
}

fn base(key: &'static str, text: &str) -> Result<Base, SettingsError> {
    Base::parse(text).map_err(|error| {
        let advice = "write it like \"https://host:port/\" or \"https://host/api/raw/?path=/\"";
        unusable(key, format!("`{text}` cannot be used: {error}"), advice)
    })
}

fn token(key: &'static str, file: &str) -> Result<Option<Token>, PlanError> {
    if file.is_empty() {
        return Ok(None);
    }
    let secret = read_secret(Path::new(file)).map_err(|error| PlanError::Secret { key, error })?;
    Ok(Some(secret.into()))
}

fn unusable(
    key: &'static str,
    problem: impl Into<String>,
    advice: impl Into<String>,
) -> SettingsError {
    SettingsError::unusable(key, problem, advice)
}

/// Plain http to another machine.
fn travels_openly(base: &Base) -> bool {
    let url = base.url();
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "http" && !local
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn settings() -> Settings {
        let mut settings = Settings::default();
        settings.origin.primary = "http://127.0.0.1:7200".into();
        settings
    }

    fn secret() -> (tempfile::NamedTempFile, String) {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        writeln!(file, "a-token").expect("written");
        let path = file.path().to_str().expect("UTF-8").to_owned();
        (file, path)
    }

    fn refusal(settings: &Settings) -> String {
        let error = Plan::from_settings(settings).expect_err("refused");
        assert_eq!(error.code(), Code::Config);
        assert!(error.hint().is_some(), "{error}");
        error.to_string()
    }

    #[test]
    fn the_defaults_need_only_an_origin() {
        assert!(refusal(&Settings::default()).contains("origin.primary"));
        let plan = Plan::from_settings(&settings()).expect("usable");
        assert_eq!(plan.origin[0].as_str(), "http://127.0.0.1:7200/");
        assert_eq!(plan.budget.max_bytes, 5 << 30);
        assert!(plan.jump.is_none() && !plan.admin.is_set());
    }

    #[test]
    fn a_token_does_not_travel_openly_unless_that_is_accepted() {
        let (_file, path) = secret();
        let mut settings = settings();
        settings.origin.token_file = path;
        assert!(
            Plan::from_settings(&settings).is_ok(),
            "loopback is not on the way"
        );
        settings.origin.primary = "http://images.example/".into();
        assert!(refusal(&settings).contains("plain http"));
        settings.origin.insecure = true;
        assert!(Plan::from_settings(&settings).is_ok());
    }

    #[test]
    fn a_signed_heartbeat_may_travel_openly_and_a_token_may_not() {
        let (_file, path) = secret();
        let mut settings = settings();
        settings.url = "http://me.example:45678".into();
        settings.jump.urls = vec!["http://jump.example/".into()];
        settings.jump.token_file = path;
        let plan = Plan::from_settings(&settings)
            .expect("usable")
            .jump
            .expect("planned");
        assert_eq!(plan.url.expect("set").as_str(), "http://me.example:45678/");
        settings.jump.auth = Auth::Token;
        assert!(refusal(&settings).contains("plain http"));
        settings.jump.insecure = true;
        assert!(Plan::from_settings(&settings).is_ok());
        settings.url = "auto".into();
        assert!(refusal(&settings).contains("auto"));
    }

    #[test]
    fn what_a_node_says_of_itself_is_checked_and_nothing_is_said_for_nothing() {
        let (_file, path) = secret();
        let mut settings = settings();
        settings.jump.urls = vec!["https://jump.example/".into()];
        settings.jump.token_file = path;
        let report = |settings: &Settings| {
            Plan::from_settings(settings)
                .expect("usable")
                .jump
                .expect("planned")
                .report
        };
        assert_eq!(report(&settings), Report::default());
        settings.jump.capacity = 50;
        settings.jump.isp = "Telecom".into();
        let said = report(&settings);
        assert_eq!(said.capacity, Some(50));
        assert_eq!(said.labels, Labels::new("telecom", "", ""));
        settings.jump.capacity = u32::MAX;
        assert!(refusal(&settings).contains("jump.capacity"));
    }

    #[test]
    fn jumps_without_a_token_are_refused() {
        let mut settings = settings();
        settings.jump.urls = vec!["https://jump.example/".into()];
        assert!(refusal(&settings).contains("jump.token_file"));
    }

    #[test]
    fn odd_values_are_named() {
        let mut odd = settings();
        odd.server_id = "a b".into();
        assert!(refusal(&odd).contains("server_id"));
        let mut odd = settings();
        odd.origin.backup = vec!["ftp://x/".into()];
        assert!(refusal(&odd).contains("origin.backup"));
        let mut odd = settings();
        odd.tls.cert = "/cert.pem".into();
        assert!(refusal(&odd).contains("tls"));
        let mut odd = settings();
        odd.transform.formats = vec!["bmp".into()];
        assert!(refusal(&odd).contains("transform.formats"));
        let mut odd = settings();
        odd.limit.trusted_proxies = vec!["proxy".into()];
        assert!(refusal(&odd).contains("limit.trusted_proxies"));
    }
}
