//! The documents: each test that a promise names exists, each link leads somewhere, and what is
//! written in two languages has the same parts in both.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A word in backticks with this many underscores is the name of a test: nothing else in the
/// documents is so long.
const UNDERSCORES: usize = 4;

/// The documents whose promises name their tests.
const PROMISES: [&str; 2] = ["docs/semantics.md", "docs/graph-traps.md"];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files of a kind below some of our folders; not what was built.
fn files(kind: &str, below: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = below.iter().map(|name| top().join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of this repository") {
            let entry = entry.expect("an entry");
            let path = entry.path();
            if entry.file_type().expect("a type").is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == kind) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no .{kind} in {below:?}");
    found
}

fn documents() -> Vec<PathBuf> {
    let mut documents = files("md", &["docs", "packaging"]);
    let root = std::fs::read_dir(top()).expect("the repository");
    documents.extend(
        root.map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "md")),
    );
    documents
}

/// What stands between backticks, on one line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn each_test_that_a_promise_names_exists() {
    let mut tests = BTreeSet::new();
    for file in files("rs", &["fs", "edge", "jump", "tests"]) {
        for line in read(&file).lines() {
            let line = line.trim_start();
            let line = line.strip_prefix("async ").unwrap_or(line);
            if let Some((name, _)) = line.strip_prefix("fn ").and_then(|it| it.split_once('(')) {
                tests.insert(name.to_owned());
            }
        }
    }
    for promises in PROMISES {
        let text = read(&top().join(promises));
        let named: BTreeSet<&str> = quoted(&text).filter(is_name).collect();
        assert!(
            named.len() > 30,
            "{promises} names its tests, not only {named:?}"
        );
        let missing: Vec<_> = named
            .iter()
            .filter(|name| !tests.contains(**name))
            .collect();
        assert!(
            missing.is_empty(),
            "named in {promises}, and nowhere else: {missing:#?}"
        );
    }
}

fn is_name(word: &&str) -> bool {
    word.matches('_').count() >= UNDERSCORES
        && word
            .chars()
            .all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
}

#[test]
fn each_trap_of_the_service_has_its_row_and_its_test() {
    let text = read(&top().join("docs/graph-traps.md"));
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| T"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let traps: Vec<String> = (1..=48).map(|n| format!("T{n}")).collect();
    let told: Vec<&str> = rows.iter().map(|row| row[1]).collect();
    assert_eq!(told, traps);
    let without: Vec<&str> = rows
        .iter()
        .filter(|row| row.len() != 6 || quoted(row[4]).filter(is_name).count() == 0)
        .map(|row| row[1])
        .collect();
    // A copy is what the service is never asked for.
    assert_eq!(without, ["T41"], "traps without a test");
}

#[test]
fn each_link_between_documents_leads_somewhere() {
    for document in documents() {
        let folder = document.parent().expect("it is in a folder");
        let text = read(&document);
        for rest in text.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let there = folder.join(target).exists();
            assert!(there, "{}: {target} is not there", document.display());
        }
    }
}

#[test]
fn both_languages_have_the_same_parts() {
    /// The depth of each heading, the number of rows of each table, the commands of each block.
    fn shape(text: &str) -> Vec<String> {
        let mut shape = Vec::new();
        let mut in_code = false;
        for line in text.lines() {
            if line.starts_with("```") {
                in_code = !in_code;
                shape.push(line.to_owned());
            } else if !in_code && line.starts_with('#') {
                shape.push(line.chars().take_while(|c| *c == '#').collect());
            } else if !in_code && line.starts_with('|') {
                shape.push("row".to_owned());
            }
        }
        shape
    }
    let pairs: Vec<_> = documents()
        .into_iter()
        .filter(|path| path.to_string_lossy().ends_with(".zh-CN.md"))
        .collect();
    assert!(pairs.len() >= 2, "{pairs:?}");
    for chinese in pairs {
        let english = PathBuf::from(chinese.to_string_lossy().replace(".zh-CN.md", ".md"));
        let (ours, theirs) = (read(&english), read(&chinese));
        assert_eq!(shape(&ours), shape(&theirs), "{}", chinese.display());
        for (text, other) in [(&ours, &chinese), (&theirs, &english)] {
            let name = other
                .file_name()
                .and_then(|name| name.to_str())
                .expect("a name");
            assert!(text.contains(&format!("]({name})")), "no link to {name}");
        }
    }
}
