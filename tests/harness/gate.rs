//! The gates of the gauntlet: short in `make test`, long in `make gauntlet`.
//!
//! A gate runs rounds, each from a seed. In `make test` they are few and always the same. A long
//! run (`GAUNTLET_ROUNDS`) may be interrupted and resumed, since it notes each round that it has
//! done, and ends with a line in `docs/reliability.md`. `GAUNTLET_SEED` runs one round again.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What a long run has done so far.
#[derive(Default, Serialize, Deserialize)]
struct Progress {
    first_seed: u64,
    rounds: u64,
    /// What the rounds counted, summed up.
    counted: Vec<(String, u64)>,
}

/// Runs a gate: `round` gets a seed, and gives what it counted.
///
/// # Panics
/// A round fails; its seed is printed.
pub fn run(gate: &str, title: &str, short: u64, round: impl Fn(u64) -> Vec<(&'static str, u64)>) {
    let number = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    if let Some(seed) = number("GAUNTLET_SEED") {
        println!("{gate}: seed {seed}: {:?}", round(seed));
        return;
    }
    let Some(rounds) = number("GAUNTLET_ROUNDS") else {
        for seed in 1..=short {
            println!("{gate}: seed {seed} (GAUNTLET_SEED={seed} runs it again)");
            println!("{gate}: {:?}", round(seed));
        }
        return;
    };
    let file = progress_file(gate);
    let mut progress = load(&file).unwrap_or_else(|| Progress {
        first_seed: u64::from(rand::random::<u32>()),
        ..Progress::default()
    });
    while progress.rounds < rounds {
        let seed = progress.first_seed + progress.rounds;
        println!(
            "{gate}: round {} of {rounds}, seed {seed}",
            progress.rounds + 1
        );
        for (what, count) in round(seed) {
            match progress.counted.iter_mut().find(|(name, _)| name == what) {
                Some((_, sum)) => *sum += count,
                None => progress.counted.push((what.to_owned(), count)),
            }
        }
        progress.rounds += 1;
        let text = serde_json::to_string(&progress).expect("plain numbers");
        fs::write(&file, text).expect("a note of what was done");
    }
    report(gate, title, &progress);
    fs::remove_file(&file).expect("the note is no longer needed");
}

fn progress_file(gate: &str) -> PathBuf {
    let built = std::env::current_exe().expect("a test knows its own path");
    let dir = built.parent().expect("it is in a folder").join("gauntlet");
    fs::create_dir_all(&dir).expect("a folder beside the tests");
    dir.join(format!("{gate}.json"))
}

fn load(file: &Path) -> Option<Progress> {
    serde_json::from_str(&fs::read_to_string(file).ok()?).ok()
}

fn report(gate: &str, title: &str, progress: &Progress) {
    let counted: Vec<String> = progress
        .counted
        .iter()
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    let day = jiff::Zoned::now().date();
    let last = progress.first_seed + progress.rounds - 1;
    let line = format!(
        "| {gate} | {title} | {day} | {} | {}–{last} | passed | {} |\n",
        progress.rounds,
        progress.first_seed,
        counted.join(", ")
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reliability.md");
    let mut file = fs::File::options()
        .append(true)
        .open(&path)
        .expect("docs/reliability.md is there");
    file.write_all(line.as_bytes()).expect("a line in it");
    println!("{gate}: {line}");
}
