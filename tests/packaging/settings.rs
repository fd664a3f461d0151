//! The commented examples against the manual's list of names and defaults, which scripts of others
//! rely on, and against the programs themselves.

use std::path::{Path, PathBuf};

use harness::process::run;
use toml::{Table, Value};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../packaging/settings")
        .join(name)
}

/// The file with the comment signs of its settings removed: `#key = value`, without a space.
fn everything_shown(name: &str) -> Table {
    let text = std::fs::read_to_string(file(name)).expect("it is shipped");
    let shown: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.contains(" = ") && !rest.starts_with(' ') => rest,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    shown
        .parse()
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// `section.key = value` lines, so that a difference is read at a glance.
fn lines(table: &Table) -> Vec<String> {
    let mut lines: Vec<String> = table
        .iter()
        .flat_map(|(name, value)| match value {
            Value::Table(inner) => inner
                .iter()
                .map(|(key, value)| format!("{name}.{key} = {value}"))
                .collect(),
            _ => vec![format!("{name} = {value}")],
        })
        .collect();
    lines.sort();
    lines
}

fn can_be_used_as_it_is(program: &str, name: &str) {
    let path = file(name);
    let path = path.to_str().expect("a path of this repository");
    let checked = run(program, &["config", "check", "--config", path]);
    let told = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{name}: {told}");
    let printed = run(program, &["config", "example"]);
    let shipped = std::fs::read(path).expect("it is shipped");
    assert_eq!(
        String::from_utf8_lossy(&printed.stdout),
        String::from_utf8_lossy(&shipped),
        "`{program} config example` prints another file"
    );
}

#[test]
fn the_example_of_tuyunfs_shows_every_key_with_its_default() {
    let manual = toml::toml! {
        state_dir = "/var/lib/tuyun"
        [drive]
        cloud = "global"
        login_url = "https://login.microsoftonline.com"
        graph_url = "https://graph.microsoft.com"
        delta = "auto"
        ca_file = ""
        tenant = "common"
        client_id = ""
        client_secret_file = ""
        client_certificate_file = ""
        client_key_file = ""
        flow = "user"
        user = ""
        drive_id = ""
        root = "/share/mount"
        poll = "10s"
        push = "auto"
        delete_guard = 1000
        upload_limit = ""
        download_limit = ""
        [mount]
        point = "/mnt/onedrive"
        allow_other = true
        uid = ""
        gid = ""
        permissions = "fixed"
        file_mode = "0644"
        dir_mode = "0755"
        umask = ""
        passthrough = "auto"
        timeout = "30s"
        nonempty = false
        read_only = false
        [cache]
        max_size = "1GiB"
        max_age = "240h"
        min_free = "1GiB"
        [writeback]
        durability = "close"
        settle = "1s"
        uploads = 8
        grace = "5m"
        [origin]
        listen = "127.0.0.1:7200"
        prefix = "/mount"
        redirect_above = ""
        cache_control = "public, max-age=86400, stale-if-error=864000"
        tls_cert = ""
        tls_key = ""
        tokens_file = ""
        [control]
        socket = "/run/tuyun/control.sock"
        metrics = "127.0.0.1:7201"
    };
    assert_eq!(lines(&everything_shown("tuyunfs.toml")), lines(&manual));
    can_be_used_as_it_is("tuyunfs", "tuyunfs.toml");
}

#[test]
fn the_example_of_the_edge_shows_every_key_with_its_default() {
    let manual = toml::toml! {
        listen = "0.0.0.0:45678"
        server_id = "1"
        url = "auto"
        [tls]
        cert = ""
        key = ""
        [origin]
        primary = "https://image-server:7200/"
        backup = []
        token_file = ""
        insecure = false
        prefetch = false
        [cache]
        dir = "/var/cache/tuyun-edge"
        max_size = "5GiB"
        max_age = "240h"
        memory = "128MiB"
        [jump]
        urls = []
        auth = "signed"
        token_file = ""
        interval = "5s"
        insecure = false
        capacity = 0
        isp = ""
        province = ""
        country = ""
        [admin]
        token_file = ""
        [limit]
        per_second = 40
        traffic_per_day = "0"
        traffic_per_month = "0"
        trusted_proxies = []
        [transform]
        enabled = "auto"
        formats = ["webp", "avif"]
        max_pixels = 40_000_000
        widths = [320, 640, 960, 1280, 1920, 2560]
        [control]
        listen = "127.0.0.1:45679"
    };
    assert_eq!(lines(&everything_shown("edge.toml")), lines(&manual));
    can_be_used_as_it_is("tuyun-edge", "edge.toml");
}

#[test]
fn the_example_of_jump_shows_every_key_with_its_default() {
    let manual = toml::toml! {
        listen = "0.0.0.0:56789"
        origin = "https://origin.example/"
        policy = "priority"
        redis = ""
        redis_ca_file = ""
        snapshot = "auto"
        allow_origin = "*"
        [tls]
        cert = ""
        key = ""
        [nodes]
        token_file = ""
        require_signed = false
        ttl = "1200s"
        probe = "4s"
        figures = "30s"
        allow_private = false
        [geo]
        table = ""
        database = ""
        [limit]
        redirect_per_second = 30
        update_per_second = 5
        fleet = false
        trusted_proxies = []
        [hotlink]
        sites = []
        empty_referer = true
        key_file = ""
        require_signed = false
        [admin]
        token_file = ""
        [control]
        listen = "127.0.0.1:56790"
    };
    assert_eq!(lines(&everything_shown("jump.toml")), lines(&manual));
    can_be_used_as_it_is("tuyun-jump", "jump.toml");
}
