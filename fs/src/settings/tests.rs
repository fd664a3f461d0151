//! Settings from files, variables and flags: what is taken, and what is refused with which words.

use tuyun_chassis::exit::Explain as _;

use super::*;

fn with(flags: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let flags = flags
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()))
        .collect();
    let given = Given {
        file: Some(empty.path().into()),
        flags,
        ..Given::default()
    };
    load(&given).map(|loaded| loaded.settings)
}

fn refused(key: &str, value: &str) {
    let error = with(&[(key, value)]).unwrap_err();
    assert!(error.to_string().contains(key), "{key} = {value}: {error}");
    assert!(error.hint().is_some(), "{key} = {value}: no advice");
}

#[test]
fn the_example_is_the_default_with_a_mount_point() {
    let example: Settings = toml::from_str(EXAMPLE).unwrap();
    let mut expected = Settings::default();
    expected.mount.point = "/mnt/onedrive".into();
    assert_eq!(example, expected);
}

#[test]
fn the_example_shows_every_key_with_its_default() {
    let uncommented: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let shown: toml::Table = toml::from_str(&uncommented).unwrap();
    let mut expected = Settings::default();
    expected.mount.point = "/mnt/onedrive".into();
    assert_eq!(shown.clone().try_into::<Settings>().unwrap(), expected);
    // Every key, and none but those: both tables have the same shape.
    let keys = |table: &toml::Table| -> Vec<String> {
        table
            .iter()
            .flat_map(|(name, value)| match value {
                toml::Value::Table(inner) => {
                    inner.keys().map(|key| format!("{name}.{key}")).collect()
                }
                _ => vec![name.clone()],
            })
            .collect()
    };
    assert_eq!(
        keys(&shown),
        keys(&toml::Table::try_from(&expected).unwrap())
    );
}

#[test]
fn a_cloud_sets_its_addresses_and_a_given_address_stays() {
    let china = with(&[("drive.cloud", "cn")]).unwrap().drive;
    assert_eq!(china.login_url, "https://login.chinacloudapi.cn");
    assert_eq!(china.graph_url, "https://microsoftgraph.chinacloudapi.cn");
    assert_eq!(china.delta, Delta::Off);
    let dod = with(&[
        ("drive.cloud", "us-dod"),
        ("drive.login_url", "https://login.example/"),
    ])
    .unwrap()
    .drive;
    assert_eq!(dod.login_url, "https://login.example");
    assert_eq!(dod.graph_url, "https://dod-graph.microsoft.us");
    assert_eq!(dod.delta, Delta::Auto);
}

#[test]
fn a_token_travels_encrypted_or_stays_on_this_machine() {
    for url in [
        "https://graph.example",
        "http://127.0.0.1:8080",
        "http://[::1]:1",
        "http://localhost",
    ] {
        assert!(with(&[("drive.graph_url", url)]).is_ok(), "{url}");
    }
    for url in [
        "http://graph.example",
        "ftp://127.0.0.1",
        "graph.example",
        "http://127.0.0.1.example",
    ] {
        refused("drive.graph_url", url);
    }
}

#[test]
fn values_that_cannot_work_are_refused_by_name() {
    for (key, value) in [
        ("state_dir", "tuyun"),
        ("drive.root", "share"),
        ("drive.root", "/share/../mount"),
        ("drive.root", "/share/"),
        ("drive.poll", "10ms"),
        ("drive.client_certificate_file", "/etc/tuyun/app.pem"),
        ("drive.client_key_file", "/etc/tuyun/app.key"),
        ("mount.uid", "no-such-person"),
        ("mount.umask", "rwx"),
        ("mount.timeout", "1ms"),
        ("writeback.uploads", "0"),
        ("origin.prefix", "mount"),
        ("origin.prefix", "/_api"),
        ("origin.prefix", "/a//b"),
        ("origin.redirect_above", "10MiB"),
        ("origin.tls_cert", "/etc/cert.pem"),
        ("control.socket", ""),
    ] {
        refused(key, value);
    }
}

#[test]
fn an_application_needs_a_secret_a_tenant_and_somebody_elses_drive() {
    let mut flags = vec![("drive.flow", "app")];
    for (missing, value) in [
        ("drive.client_id", "id"),
        ("drive.client_secret_file", "/etc/tuyun/secret"),
        ("drive.user", "someone@example.com"),
        ("drive.tenant", "example.com"),
    ] {
        let error = with(&flags).unwrap_err();
        assert!(error.to_string().contains(missing), "{error}");
        flags.push((missing, value));
    }
    assert!(with(&flags).is_ok());
}

#[test]
fn an_application_proves_itself_by_a_secret_or_by_a_certificate_not_by_both() {
    let mut flags = vec![
        ("drive.flow", "app"),
        ("drive.client_id", "id"),
        ("drive.tenant", "example.com"),
        ("drive.user", "someone@example.com"),
        ("drive.client_certificate_file", "/etc/tuyun/app.pem"),
        ("drive.client_key_file", "/etc/tuyun/app.key"),
    ];
    assert!(with(&flags).is_ok());
    flags.push(("drive.client_secret_file", "/etc/tuyun/secret"));
    let error = with(&flags).unwrap_err().to_string();
    assert!(error.contains("drive.client_secret_file"), "{error}");
}

#[test]
fn personal_accounts_are_looked_for_in_the_global_cloud_alone() {
    assert!(with(&[("drive.tenant", "consumers")]).is_ok());
    for cloud in ["us", "us-dod", "cn"] {
        let error = with(&[("drive.tenant", "consumers"), ("drive.cloud", cloud)]).unwrap_err();
        assert!(error.to_string().contains("drive.tenant"), "{error}");
    }
}

#[test]
fn scopes_name_the_graph_of_the_cloud_whatever_stands_before_it() {
    for (cloud, graph) in [
        ("global", "https://graph.microsoft.com"),
        ("us", "https://graph.microsoft.us"),
        ("us-dod", "https://dod-graph.microsoft.us"),
        ("cn", "https://microsoftgraph.chinacloudapi.cn"),
    ] {
        let resource = |flags: &[(&str, &str)]| with(flags).unwrap().drive.resource();
        assert_eq!(resource(&[("drive.cloud", cloud)]), graph);
        let proxied = [
            ("drive.cloud", cloud),
            ("drive.graph_url", "https://proxy.example.cn"),
        ];
        assert_eq!(resource(&proxied), graph);
        assert_eq!(resource(&[("drive.graph_url", graph)]), graph);
    }
}

#[test]
fn a_umask_takes_the_place_of_both_modes() {
    let mount = with(&[("mount.umask", "000"), ("mount.file_mode", "0600")])
        .unwrap()
        .mount;
    let (file, dir) = mount.modes().unwrap();
    assert_eq!((file.bits(), dir.bits()), (0o666, 0o777));
}

#[test]
fn the_prefix_may_be_nothing() {
    assert_eq!(with(&[("origin.prefix", "/")]).unwrap().origin.prefix(), "");
    assert_eq!(
        with(&[("origin.prefix", "/pic/")]).unwrap().origin.prefix(),
        "/pic"
    );
}

#[test]
fn an_owner_may_be_written_with_and_without_quotes() {
    let mount: Mount = toml::from_str("uid = 33\ngid = \"33\"").unwrap();
    assert_eq!(mount.owner().unwrap(), (Some(33), Some(33)));
}
