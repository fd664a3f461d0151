//! Settings read from made-up files, flags and environments.

use serde::Deserialize;

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Sample {
    listen: String,
    retries: u32,
    node: Node,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Node {
    ttl: Period,
    cache_size: Size,
    names: Vec<String>,
    strict: bool,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:1".into(),
            retries: 3,
            node: Node::default(),
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self {
            ttl: Period::seconds(60),
            cache_size: Size::gibibytes(1),
            names: vec![],
            strict: false,
        }
    }
}

const SPEC: Spec = Spec {
    prefix: "SAMPLE",
    file: "/nonexistent/sample.toml",
};

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect()
}

fn load(
    file: Option<&str>,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Loaded<Sample>, SettingsError> {
    let held = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(held.path(), file.unwrap_or_default()).unwrap();
    SPEC.load_given(&Given {
        file: file.map(|_| held.path().to_owned()),
        flags: pairs(flags),
        environment: pairs(environment),
    })
}

fn problem(result: Result<Loaded<Sample>, SettingsError>) -> (String, Code) {
    let error = result.unwrap_err();
    (error.to_string(), error.code())
}

#[test]
fn without_file_flag_or_variable_the_defaults_stand() {
    assert_eq!(load(None, &[], &[]).unwrap().settings, Sample::default());
}

#[test]
fn a_flag_outweighs_the_environment_which_outweighs_the_file() {
    let file = "listen = \"file\"\nretries = 5\n[node]\nttl = \"2m\"\n";
    let environment = [("SAMPLE_LISTEN", "variable"), ("SAMPLE_RETRIES", "6")];
    let loaded = load(Some(file), &environment, &[("listen", "flag")])
        .unwrap()
        .settings;
    assert_eq!(loaded.listen, "flag");
    assert_eq!(loaded.retries, 6);
    assert_eq!(loaded.node.ttl, Period::seconds(120));
    assert_eq!(loaded.node.cache_size, Size::gibibytes(1));
}

#[test]
fn an_unknown_key_in_the_file_names_its_line() {
    let (message, code) = problem(load(Some("retries = 1\n[node]\nttll = \"1s\"\n"), &[], &[]));
    assert!(
        message.contains(", line 3: unknown field `ttll`"),
        "{message}"
    );
    assert_eq!(code, Code::Config);
}

#[test]
fn a_bad_value_in_the_file_names_its_line_and_the_right_form() {
    let (message, _) = problem(load(Some("\n[node]\nttl = 10\n"), &[], &[]));
    assert!(message.contains(", line 3: "), "{message}");
    assert!(message.contains("like \"10s\""), "{message}");
    let (message, _) = problem(load(Some("listen = \n"), &[], &[]));
    assert!(message.contains(", line 1: "), "{message}");
}

#[test]
fn a_bad_value_in_a_flag_or_variable_names_that_flag_or_variable() {
    let (message, code) = problem(load(None, &[], &[("node.cache_size", "big")]));
    assert!(
        message.starts_with("--node.cache-size: `big` is not a size"),
        "{message}"
    );
    assert_eq!(code, Code::Usage);
    let (message, code) = problem(load(None, &[("SAMPLE_NODE__STRICT", "perhaps")], &[]));
    assert_eq!(
        message,
        "environment variable SAMPLE_NODE__STRICT: `perhaps` is neither true nor false"
    );
    assert_eq!(code, Code::Config);
}

#[test]
fn a_file_that_was_named_must_exist() {
    let given = Given {
        file: Some("/nonexistent/other.toml".into()),
        ..Given::default()
    };
    let error = SPEC.load_given::<Sample>(&given).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the settings file /nonexistent/other.toml"
    );
    assert!(error.hint().unwrap().contains("--config"));
}

#[test]
fn a_variable_with_our_prefix_that_names_no_key_is_mentioned() {
    let loaded = load(None, &[("SAMPLE_LISTN", "x"), ("SAMPLER", "y")], &[]).unwrap();
    assert_eq!(
        loaded.warnings,
        ["environment variable SAMPLE_LISTN names no setting"]
    );
}

#[test]
fn the_command_line_has_a_flag_for_each_key() {
    let command = SPEC.attach::<Sample>(Command::new("sample"));
    command.clone().debug_assert();
    let line = [
        "sample",
        "--listen",
        "here",
        "--node.cache-size=2GiB",
        "--node.strict",
    ];
    let matches = command.try_get_matches_from(line).unwrap();
    let loaded = SPEC.load::<Sample>(&matches).unwrap().settings;
    assert_eq!(loaded.listen, "here");
    assert_eq!(loaded.node.cache_size, Size::gibibytes(2));
    assert!(loaded.node.strict);
}
