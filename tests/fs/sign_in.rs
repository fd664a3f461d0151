//! A sign-in that dies while mounted: what is here is served, what is changed is kept, and a new
//! sign-in heals it where it stands.

use std::time::{Duration, Instant};

use graph_emulator::{
    Act, CONFIDENTIAL_CLIENT, CONFIDENTIAL_SECRET, Client, Emulator, Fault, Options, Profile, Route,
};
use harness::cloud::{CLIENT_ID, Cloud};
use harness::http;
use harness::mount::Mount;
use harness::needs::{self, Need};
use harness::process::run;
use harness::wait::until;
use serde_json::Value;
use tuyunfs::auth::TokenStore;

/// A certificate and its key that are known to all tests, and to nobody's service.
const CERTIFICATE: &str = include_str!("../../fs/tests/data/client.pem");
const KEY: &str = include_str!("../../fs/tests/data/client.key");

fn can_mount() -> bool {
    needs::met(&[Need::Root, Need::Fuse])
}

/// A mount whose folder has been looked into: names that nobody has seen are unknown offline.
fn listed(mount: &Mount) {
    assert_eq!(
        std::fs::read_dir(&mount.point).expect("a folder").count(),
        0
    );
}

/// Waits until `status` names this state of the sign-in.
fn until_state(mount: &Mount, state: &str) -> Value {
    until(&format!("the sign-in is {state}"), || {
        let sign_in = mount.status()["sign_in"].take();
        (sign_in["state"] == state).then_some(sign_in)
    })
}

/// A figure of `/metrics`.
fn figure(mount: &Mount, name: &str) -> u64 {
    let page = http::get(&format!("{}/metrics", mount.metrics), &[]);
    let page = String::from_utf8(page.body).expect("text");
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(&format!("tuyunfs_{name} ")))
        .unwrap_or_else(|| panic!("no {name} in {page}"));
    line.parse().expect("a number")
}

/// The service forgets every sign-in.
fn revoke(cloud: &Cloud) {
    cloud.0.revoke_refresh_tokens();
    cloud.0.expire_tokens();
}

/// A mount with a file that is read, hence cached, after which the sign-in dies.
fn with_a_dead_sign_in(cloud: &Cloud, keys: &[(&str, &str)]) -> Mount {
    cloud
        .0
        .put_file("share/mount/cached.gif", b"GIF89a cached")
        .expect("a file");
    let mut mount = Mount::prepare(cloud, keys);
    mount.login(cloud);
    mount.run();
    assert_eq!(
        std::fs::read(mount.point.join("cached.gif")).expect("it is there"),
        b"GIF89a cached"
    );
    revoke(cloud);
    // Sending it shows at the latest that nobody is signed in any more.
    std::fs::write(mount.point.join("unsent.gif"), b"GIF89a unsent").expect("a file");
    let sign_in = until_state(&mount, "sign_in_needed");
    assert!(
        sign_in["why"]
            .as_str()
            .expect("a reason")
            .contains("AADSTS50173")
    );
    mount
}

/// Changes of every kind, none of which waits for anybody.
fn change(mount: &Mount) {
    let at = |path: &str| mount.point.join(path);
    assert_eq!(
        std::fs::read(at("cached.gif")).expect("it is cached"),
        b"GIF89a cached"
    );
    std::fs::create_dir(at("2026")).expect("a folder");
    std::fs::write(at("2026/a.gif"), b"GIF89a new").expect("a file");
    std::fs::rename(at("2026/a.gif"), at("2026/b.gif")).expect("a rename");
    std::fs::write(at("gone.gif"), b"x").expect("a file");
    std::fs::remove_file(at("gone.gif")).expect("a removal");
    assert_eq!(
        std::fs::read(at("2026/b.gif")).expect("it is here"),
        b"GIF89a new"
    );
}

#[test]
fn a_revoked_sign_in_stops_nobody_and_a_login_heals_it_at_once_without_a_remount() {
    if !can_mount() {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let mount = with_a_dead_sign_in(&cloud, &[]);
    let process = mount.status()["pid"].clone();
    change(&mount);

    let status = mount.status();
    assert!(status["pending"].as_u64().expect("a count") > 0, "{status}");
    let degraded = status["degraded"].as_str().expect("it says why");
    assert!(degraded.contains("tuyunfs login"), "{degraded}");
    assert!(status["sign_in"]["since"].as_u64() >= status["since"].as_u64());
    let text = mount.tuyunfs(&["status"]);
    assert!(text.contains("sign-in   needed for"), "{text}");
    let ready = until("it is not ready", || {
        let ready = http::get(&format!("{}/readyz", mount.metrics), &[]);
        (ready.status == 503).then_some(ready)
    });
    let ready = String::from_utf8(ready.body).expect("text");
    for word in ["sign_in", "AADSTS50173", "tuyunfs login", "since 20"] {
        assert!(ready.contains(word), "{word}: {ready}");
    }
    assert_eq!(figure(&mount, "sign_in_needed"), 1);
    assert_eq!(figure(&mount, "signed_in"), 0);
    assert_eq!(
        Some(figure(&mount, "sign_in_since_seconds")),
        status["sign_in"]["since"].as_u64()
    );
    cloud.0.reset_log();
    assert_eq!(cloud.0.read_file("share/mount/2026/b.gif"), None);

    let begun = Instant::now();
    mount.login(&cloud);
    // By the time that the command is back, the daemon knows.
    assert_eq!(mount.status()["sign_in"]["state"], "signed_in");
    cloud.has("share/mount/2026/b.gif", b"GIF89a new");
    // The queue looks again by itself after half a minute: this was sooner.
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert_eq!(cloud.0.node("share/mount/gone.gif"), None);
    assert_eq!(mount.status()["pid"], process, "nothing was restarted");
    until("it is ready again", || {
        let ready = http::get(&format!("{}/readyz", mount.metrics), &[]);
        (ready.status == 200).then_some(())
    });
    // The service was asked for nothing in vain: one renewal by the login, none by the daemon.
    assert_eq!(cloud.0.count(Route::Token), 1);
    let token = std::fs::read_to_string(mount.state_dir().join("token.json")).expect("a token");
    let token: Value = serde_json::from_str(&token).expect("JSON");
    for secret in ["access_token", "refresh_token"] {
        let secret = token[secret].as_str().expect("a secret");
        assert!(!mount.log().contains(secret), "a secret is in the log");
    }
}

#[test]
fn a_token_that_another_process_writes_is_noticed_by_its_file() {
    if !can_mount() {
        return;
    }
    let cloud = Cloud::start(Profile::PersonalMigrated);
    // Nobody asks for a token meanwhile: the queue is asleep for half a minute, all else for long.
    let keys = [("drive.poll", "24h"), ("drive.push", "off")];
    let mount = with_a_dead_sign_in(&cloud, &keys);
    change(&mount);
    let store = TokenStore::in_dir(&mount.state_dir());
    let mut token = store.load().expect("readable").expect("never deleted");
    let pair = cloud.0.issue_token(CLIENT_ID);
    token.refresh_token = pair.refresh_token.into();
    token.access_token = pair.access_token.into();
    let begun = Instant::now();
    store.save(&token).expect("a disk that works");
    until_state(&mount, "signed_in");
    cloud.has("share/mount/2026/b.gif", b"GIF89a new");
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_mount_whose_sign_in_died_meanwhile_starts_and_serves_what_is_here() {
    if !can_mount() {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let mut mount = with_a_dead_sign_in(&cloud, &[]);
    change(&mount);
    mount.kill();
    mount.run_degraded();
    assert_eq!(
        std::fs::read(mount.point.join("2026/b.gif")).expect("it is here"),
        b"GIF89a new"
    );
    until_state(&mount, "sign_in_needed");
    mount.login(&cloud);
    cloud.has("share/mount/2026/b.gif", b"GIF89a new");
}

#[test]
fn an_outage_of_the_login_authority_is_named_and_ends_by_itself() {
    if !can_mount() {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let mount = Mount::start(&cloud);
    listed(&mount);
    cloud
        .0
        .inject(Fault::new(Route::Token, Act::LoseRequest).always());
    cloud.0.expire_tokens();
    until_state(&mount, "unreachable");
    std::fs::write(mount.point.join("a.gif"), b"GIF89a").expect("a file");
    assert_eq!(figure(&mount, "sign_in_unreachable"), 1);
    assert_eq!(figure(&mount, "sign_in_needed"), 0);
    let ready = http::get(&format!("{}/readyz", mount.metrics), &[]);
    assert_eq!(
        ready.status, 200,
        "what is cached is served, and nobody has to act"
    );
    cloud.0.clear_faults();
    until_state(&mount, "signed_in");
    cloud.has("share/mount/a.gif", b"GIF89a");
}

#[test]
fn an_application_whose_secret_has_expired_is_misconfigured_until_it_gets_a_new_one() {
    if !can_mount() {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let secrets = tempfile::tempdir().expect("a folder");
    let secret = secrets.path().join("secret");
    std::fs::write(&secret, CONFIDENTIAL_SECRET).expect("a secret");
    let mut mount = Mount::prepare(
        &cloud,
        &[
            ("drive.flow", "app"),
            ("drive.tenant", "contoso.onmicrosoft.com"),
            ("drive.user", "ada@contoso.com"),
            ("drive.client_id", CONFIDENTIAL_CLIENT),
            ("drive.client_secret_file", &secret.display().to_string()),
        ],
    );
    mount.run();
    listed(&mount);
    let expired = Act::Oauth {
        status: 401,
        error: "invalid_client".into(),
        number: 7_000_222,
    };
    cloud.0.inject(Fault::new(Route::Token, expired).always());
    cloud.0.expire_tokens();
    let sign_in = until_state(&mount, "misconfigured");
    let why = sign_in["why"].as_str().expect("a reason");
    assert!(
        why.contains("AADSTS7000222") && why.contains("drive.client_secret_file"),
        "{why}"
    );
    assert_eq!(figure(&mount, "sign_in_misconfigured"), 1);
    std::fs::write(mount.point.join("a.gif"), b"GIF89a").expect("a file");
    cloud.0.clear_faults();
    // As an administrator does who has made a new one.
    std::fs::write(secrets.path().join("new"), CONFIDENTIAL_SECRET).expect("a secret");
    std::fs::rename(secrets.path().join("new"), &secret).expect("a rename");
    until_state(&mount, "signed_in");
    cloud.has("share/mount/a.gif", b"GIF89a");
}

#[test]
fn a_login_as_another_account_does_not_take_the_mounts_place() {
    if !can_mount() {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let mount = Mount::start(&cloud);
    let other = Cloud::start(Profile::Business);
    let file = mount.dir().join("other.json");
    std::fs::write(&file, other.rclone_token()).expect("a token file");
    let before = std::fs::read(mount.state_dir().join("token.json")).expect("a token");
    let (file, config) = (
        file.display().to_string(),
        mount.config.display().to_string(),
    );
    let arguments = [
        "login",
        "--rclone",
        &file,
        "--config",
        &config,
        "--drive.login-url",
        other.0.login_url(),
        "--drive.graph-url",
        other.0.graph_url(),
    ];
    let done = run("tuyunfs", &arguments);
    let told = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(78), "{told}");
    assert!(told.contains("not stored"), "{told}");
    let after = std::fs::read(mount.state_dir().join("token.json")).expect("a token");
    assert_eq!(after, before);
}

#[test]
fn access_tokens_that_end_early_are_renewed_without_a_word() {
    if !can_mount() {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let mount = Mount::start(&cloud);
    listed(&mount);
    cloud.0.reset_log();
    cloud.0.expire_tokens();
    std::fs::write(mount.point.join("a.gif"), b"GIF89a").expect("a file");
    cloud.has("share/mount/a.gif", b"GIF89a");
    assert!(cloud.0.block_until(
        Duration::from_mins(1),
        |drive| drive.completed(Route::Token) == 1
    ));
    assert_eq!(mount.status()["sign_in"]["state"], "signed_in");
}

#[test]
fn a_mount_of_an_application_with_a_certificate_needs_no_person() {
    if !can_mount() {
        return;
    }
    let mut options = Options::new(Profile::Business);
    options.clients.push(Client {
        id: "certified".into(),
        secret: None,
        certificate: Some(CERTIFICATE.into()),
        redirects: Vec::new(),
    });
    let cloud = Cloud(Emulator::launch(options).expect("the emulator starts"));
    let files = tempfile::tempdir().expect("a folder");
    let at = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let mut mount = Mount::prepare(
        &cloud,
        &[
            ("drive.flow", "app"),
            ("drive.tenant", "contoso.onmicrosoft.com"),
            ("drive.user", "ada@contoso.com"),
            ("drive.client_id", "certified"),
            ("drive.client_certificate_file", &at("app.pem", CERTIFICATE)),
            ("drive.client_key_file", &at("app.key", KEY)),
        ],
    );
    let told = mount.tuyunfs(&["login"]);
    assert!(told.contains("signed in: OneDrive for work"), "{told}");
    mount.run();
    std::fs::write(mount.point.join("a.gif"), b"GIF89a").expect("a file");
    cloud.has("share/mount/a.gif", b"GIF89a");
    let status = mount.status();
    assert_eq!(status["push"]["state"], "not_offered", "{status}");
    assert!(status["sign_in"]["lasts_until"].is_null(), "{status}");
    assert!(!mount.state_dir().join("token.json").exists());
    // A key that is not the certificate's is found before anything is asked.
    at("app.key", "");
    let config = mount.config.display().to_string();
    let done = run("tuyunfs", &["login", "--config", &config]);
    let told = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(78), "{told}");
    assert!(told.contains("drive.client_key_file"), "{told}");
}

#[test]
fn a_token_of_rclone_that_cannot_be_taken_says_why_and_what_to_do() {
    let cloud = Cloud::start(Profile::PersonalClassic);
    let mount = Mount::prepare(&cloud, &[]);
    let token = cloud.rclone_token();
    let own = format!("[one]\ntype = onedrive\nclient_id =\ntoken = {token}\n");
    let encrypted = "# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nabc=\n";
    let foreign = own.replace("client_id =", "client_id = somebody-elses");
    for (text, code, words) in [
        (own.as_str(), 77, ["rclone's own application", "client_id"]),
        (encrypted, 78, ["encrypted", "rclone config show"]),
        (&foreign, 77, ["AADSTS70000", "tuyunfs login"]),
    ] {
        let file = mount.dir().join("rclone.conf");
        std::fs::write(&file, text).expect("a file");
        let (file, config) = (
            file.display().to_string(),
            mount.config.display().to_string(),
        );
        let done = run(
            "tuyunfs",
            &["login", "--rclone", &file, "--config", &config],
        );
        let told = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{told}");
        for word in words {
            assert!(told.contains(word), "`{word}`: {told}");
        }
        assert!(!mount.state_dir().join("token.json").exists());
    }
}
