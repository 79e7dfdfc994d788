//! The gallery: what people get wrong, and the exact words that they read then. A case is a file in
//! tests/data/gallery: what is wrong, the command, the files, and behind `===` what the real binary says.
//!
//! `KINDLING_GALLERY=write cargo test --test it gallery` writes down what it says now; the difference is then read
//! before it is committed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::place::Place;

/// Fewest cases.
const FEWEST: usize = 40;

struct Case {
    path: PathBuf,
    /// All before `===`.
    given: String,
    command: Vec<String>,
    files: Vec<(String, String)>,
    said: String,
}

impl Case {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let (given, said) = text.split_once("===\n").unwrap_or_else(|| panic!("{}: no ===", path.display()));
        let mut lines = given.lines();
        assert!(lines.next().unwrap().starts_with("# "), "{}: it says nothing of itself", path.display());
        let command = lines.next().unwrap().strip_prefix("$ kindling ").unwrap();
        let mut files: Vec<(String, String)> = Vec::new();
        for line in lines {
            match line.strip_prefix("--- ") {
                Some(name) => files.push((name.to_owned(), String::new())),
                None => {
                    let (_, text) = files.last_mut().unwrap();
                    *text += line;
                    text.push('\n');
                }
            }
        }
        let command = command.split(' ').map(str::to_owned).collect();
        Self { path: path.to_owned(), given: given.to_owned(), command, files, said: said.to_owned() }
    }

    fn run(&self) -> String {
        let place = Place::new();
        for (name, text) in &self.files {
            place.write(name, text);
        }
        // Where the test's own directory lies is the machine's affair.
        let said = place.run(&self.command).shown();
        match (said.find("[ROOT]/kindling.yaml, "), said.find("[ROOT]/home")) {
            (Some(from), Some(to)) => format!("{}[ABOVE], {}", &said[..from], &said[to..]),
            _ => said,
        }
    }
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gallery");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| Case::read(path)).collect()
}

#[test]
fn every_mistake_is_told_in_these_words() {
    let (cases, writes) = (cases(), std::env::var("KINDLING_GALLERY").is_ok_and(|word| word == "write"));
    assert!(cases.len() >= FEWEST, "{}", cases.len());
    let mut differ = Vec::new();
    for case in cases {
        let said = case.run();
        if said == case.said {
            continue;
        }
        if writes {
            fs::write(&case.path, format!("{}===\n{said}", case.given)).unwrap();
        }
        differ.push(format!("{}\n--- written:\n{}--- said:\n{said}", case.path.display(), case.said));
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// What all of them have in common, whoever wrote the message.
#[test]
fn all_mistakes_are_told_in_one_style() {
    for case in cases() {
        let name = case.path.file_stem().unwrap().to_str().unwrap().to_owned();
        let lines: Vec<&str> = case.said.lines().collect();
        let code = lines.first().copied().unwrap_or_default();
        let is_warning = name.ends_with("-ignored");
        assert!(["exit 1", "exit 2", "exit 3"].contains(&code) || is_warning, "{name}: {code}");
        assert!(lines.len() > 1, "{name} says nothing");
        for line in &lines[1..] {
            // No full stop, no shouting, no word of the code.
            assert!(!line.ends_with('.') || line.ends_with(" ."), "{name}: {line}");
            for word in [
                "Err(",
                "Some(",
                "unwrap",
                "panicked",
                "serde",
                "invalid type",
                "No such file or directory (os",
            ] {
                assert!(!line.contains(word), "{name}: {line}");
            }
        }
        assert!(!case.said.contains("hunter2"), "{name} repeats a secret");
    }
}
