//! The edge's settings, as they are written, and what follows from them.
//!
//! [`Settings`] has the names of the manual. [`Plan`] is what the program works with: addresses
//! parsed, tokens read, and every combination that cannot work refused with what to do about it.

mod plan;

use serde::{Deserialize, Serialize};
use tuyun_chassis::settings::{Period, Size, Spec};

pub use self::plan::{JumpPlan, Plan, PlanError};

/// Where settings come from.
pub const SPEC: Spec = Spec {
    prefix: "TUYUN_EDGE",
    file: "/etc/tuyun/edge.toml",
};

/// All settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where visitors come in.
    pub listen: String,
    /// This node's name towards jump.
    pub server_id: String,
    /// Where visitors find this node, or `auto`: jump fills in the address it sees.
    pub url: String,
    /// The certificate, for HTTPS.
    pub tls: TlsSettings,
    /// Where pictures come from.
    pub origin: OriginSettings,
    /// What is held, and for how long.
    pub cache: CacheSettings,
    /// Who is told that this node is alive.
    pub jump: JumpSettings,
    /// Who may purge.
    pub admin: AdminSettings,
    /// How much one address may ask.
    pub limit: LimitSettings,
    /// Other sizes and formats of a picture.
    pub transform: TransformSettings,
    /// The operator's listener.
    pub control: ControlSettings,
}

/// Certificate and key, PEM files; both or none.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSettings {
    /// The chain.
    pub cert: String,
    /// The key of its first certificate.
    pub key: String,
}

/// Where pictures come from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OriginSettings {
    /// The base that is asked first.
    pub primary: String,
    /// Bases that are asked, in this order, when it does not help.
    pub backup: Vec<String>,
    /// A file with the token for the primary.
    pub token_file: String,
    /// The token may travel over plain http.
    pub insecure: bool,
    /// New pictures are fetched as soon as the origin tells of them.
    pub prefetch: bool,
}

/// What is held, and for how long.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSettings {
    /// The directory.
    pub dir: String,
    /// All bodies together.
    pub max_size: Size,
    /// The longest an entry may lie unused.
    pub max_age: Period,
    /// What of it is kept in memory as well.
    pub memory: Size,
}

/// Who is told that this node is alive.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JumpSettings {
    /// The jumps; none, and nobody is told.
    pub urls: Vec<String>,
    /// How a heartbeat proves who sent it.
    pub auth: Auth,
    /// A file with the token.
    pub token_file: String,
    /// How often. A heartbeat counts for four times as long.
    pub interval: Period,
    /// The token may travel over plain http.
    pub insecure: bool,
    /// How much this node can send, in Mbit/s; 0 says nothing.
    pub capacity: u32,
    /// The provider that it is near.
    pub isp: String,
    /// The province or state.
    pub province: String,
    /// The country.
    pub country: String,
}

/// How a heartbeat proves who sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// Signed with the token, which does not travel.
    #[default]
    Signed,
    /// With the token inside, as original jumps want it.
    Token,
}

/// Who may purge.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSettings {
    /// A file with the token; none, and nobody may.
    pub token_file: String,
}

/// How much one address may ask.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Requests a second and address; 0 for no limit.
    pub per_second: u32,
    /// Bytes to visitors in a day; 0 for no limit.
    pub traffic_per_day: Size,
    /// Bytes to visitors in a month; 0 for no limit.
    pub traffic_per_month: Size,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
}

/// Other sizes and formats of a picture.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransformSettings {
    /// Whether they are made.
    pub enabled: Transform,
    /// The formats that may be asked for.
    pub formats: Vec<String>,
    /// The largest picture that is touched.
    pub max_pixels: u64,
    /// The widths that are made; others are rounded up.
    pub widths: Vec<u32>,
}

/// Whether variants are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transform {
    /// Where the machine can afford it.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// The operator's listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControlSettings {
    /// Its address; empty for none.
    pub listen: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:45678".into(),
            server_id: "1".into(),
            url: "auto".into(),
            tls: TlsSettings::default(),
            origin: OriginSettings::default(),
            cache: CacheSettings::default(),
            jump: JumpSettings::default(),
            admin: AdminSettings::default(),
            limit: LimitSettings::default(),
            transform: TransformSettings::default(),
            control: ControlSettings::default(),
        }
    }
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            dir: "/var/cache/tuyun-edge".into(),
            max_size: Size::gibibytes(5),
            max_age: Period::seconds(240 * 3_600),
            memory: Size::mebibytes(128),
        }
    }
}

impl Default for JumpSettings {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            auth: Auth::Signed,
            token_file: String::new(),
            interval: Period::seconds(5),
            insecure: false,
            capacity: 0,
            isp: String::new(),
            province: String::new(),
            country: String::new(),
        }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            per_second: 40,
            traffic_per_day: Size(0),
            traffic_per_month: Size(0),
            trusted_proxies: Vec::new(),
        }
    }
}

impl Default for TransformSettings {
    fn default() -> Self {
        Self {
            enabled: Transform::Auto,
            formats: vec!["webp".into(), "avif".into()],
            max_pixels: 40_000_000,
            widths: vec![320, 640, 960, 1280, 1920, 2560],
        }
    }
}

impl Default for ControlSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:45679".into(),
        }
    }
}
