//! Holds the order of the layers, the home of each external crate, and the sizes of files and functions.
//!
//! It reads text, not meaning: a module lies on a line of its own in lib.rs, and paths are written plainly.

mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use self::source::{PathAt, code, functions, paths, without_tests};

/// Adapters to the world: they never use each other.
const ADAPTERS: [&str; 4] = ["observe", "act", "record", "forge"];

/// External crates and the modules that may use them.
const HOMES: [(&str, &[&str]); 19] = [
    ("axum", &["api"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("command_fds", &["act"]),
    ("gix", &["observe"]),
    ("http_body_util", &["forge"]),
    ("jiff", &["model", "support"]),
    ("notify", &["observe"]),
    ("octocrab", &["forge"]),
    ("reqwest", &["observe", "act", "cli"]),
    ("schemars", &["api"]),
    ("semver", &["config", "observe"]),
    ("serde_saphyr", &["config"]),
    ("sha2", &["plan", "api"]),
    ("hmac", &["api"]),
    ("sqlx", &["record"]),
    ("subtle", &["api"]),
    ("tracing_subscriber", &["support"]),
    ("rustls", &["observe", "act", "app", "cli"]),
];

/// What pure modules must not reach for: input, output, clocks and runtimes.
const IMPURE: [&[&str]; 9] = [
    &["tokio"],
    &["tokio_util"],
    &["std", "fs"],
    &["std", "process"],
    &["std", "env"],
    &["std", "net"],
    &["std", "thread"],
    &["Instant", "now"],
    &["SystemTime"],
];

const MAX_FILE_LINES: usize = 600;
const MAX_FUNCTION_LINES: usize = 100;

/// A source file: its path below `src`, and its text.
type File<'a> = (&'a str, &'a str);

/// Everything that breaks a rule, as `FILE:LINE: WHAT`.
fn violations(lib: &str, files: &[File<'_>]) -> Vec<String> {
    let order: Vec<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let tests = test_files(files);
    let mut found = Vec::new();
    for (path, text) in files {
        let module = path.split(['/', '.']).next().unwrap_or("");
        let code = code(text);
        let is_test = tests.iter().any(|test| path.starts_with(test.as_str()));
        let (product, _) = if is_test { (String::new(), Vec::new()) } else { without_tests(&code) };
        let mut report = |line: usize, what: String| found.push(format!("{path}:{line}: {what}"));

        if *path != "main.rs" && !order.contains(&module) {
            report(1, "belongs to no module that lib.rs lists".into());
        }
        for at in paths(&code) {
            imports(path, module, &order, &at, &mut report);
        }
        for at in paths(&product) {
            crates(module, &at, &mut report);
            purity(module, &at, &mut report);
        }
        words(module, &product, &mut report);
        sizes(text, &code, &mut report);
    }
    // A group leads to one module by several paths.
    found.dedup();
    found
}

/// Paths, without their ending, of the files that are there for tests alone.
fn test_files(files: &[File<'_>]) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for (path, text) in files {
        let stem = path.trim_end_matches(".rs").trim_end_matches("/mod");
        let (_, modules) = without_tests(&code(text));
        for name in modules {
            tests.insert(format!("{stem}/{name}.rs"));
            tests.insert(format!("{stem}/{name}/"));
        }
    }
    tests
}

fn imports(path: &str, module: &str, order: &[&str], at: &PathAt, report: &mut impl FnMut(usize, String)) {
    let place = |name: &str| order.iter().position(|other| *other == name);
    let Some(used) = target(path, at) else { return };
    if path == "main.rs" {
        if used != "cli" {
            report(at.line, format!("main uses {used}; it may use only cli"));
        }
        return;
    }
    let (Some(own), Some(other)) = (place(module), place(used)) else { return };
    if other > own {
        report(at.line, format!("{module} uses {used}, a higher layer"));
    } else if own != other && ADAPTERS.contains(&module) && ADAPTERS.contains(&used) {
        report(at.line, format!("{module} uses {used}; adapters never use each other"));
    }
}

/// The module of this crate that a path leads to.
fn target<'a>(path: &str, at: &'a PathAt) -> Option<&'a str> {
    let parts = &at.parts;
    match parts.first()?.as_str() {
        "crate" => parts.get(1).map(String::as_str),
        "kindling" if path == "main.rs" => parts.get(1).map(String::as_str),
        "super" => {
            // A file's depth is how many `super` lead from it to the crate's root.
            let depth = path.trim_end_matches(".rs").trim_end_matches("/mod").split('/').count();
            let ups = parts.iter().take_while(|part| *part == "super").count();
            parts.get(ups).filter(|_| ups >= depth).map(String::as_str)
        }
        _ => None,
    }
}

fn crates(module: &str, at: &PathAt, report: &mut impl FnMut(usize, String)) {
    let first = at.parts[0].as_str();
    let Some((name, homes)) = HOMES.iter().find(|(name, _)| *name == first) else { return };
    if (at.is_use || at.parts.len() > 1) && !homes.contains(&module) {
        report(at.line, format!("{module} uses {name}, which is kept in {}", homes.join(", ")));
    }
}

fn purity(module: &str, at: &PathAt, report: &mut impl FnMut(usize, String)) {
    let parts: Vec<&str> = at.parts.iter().map(String::as_str).collect();
    let is_path = at.is_use || parts.len() > 1;
    if matches!(module, "model" | "plan") {
        let impure =
            IMPURE.iter().find(|impure| parts.windows(impure.len()).any(|window| window == **impure));
        if let Some(impure) = impure.filter(|_| is_path) {
            report(at.line, format!("{module} uses {}; it is pure", impure.join("::")));
        }
    }
    if module == "model" && is_path && matches!(parts[0], "serde" | "serde_json") {
        report(at.line, format!("model uses {}; each edge owns its formats", parts[0]));
    }
    if module == "config" && is_path && parts[0] == "tokio" {
        report(at.line, "config uses tokio; it is not asynchronous".into());
    }
    let starts_process = parts.windows(2).any(|window| window == ["process", "Command"]);
    if starts_process && module != "act" {
        report(at.line, format!("{module} starts a process; only act does"));
    }
}

fn words(module: &str, product: &str, report: &mut impl FnMut(usize, String)) {
    for (number, line) in product.lines().enumerate() {
        for word in [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "dbg!("] {
            if line.contains(word) {
                report(number + 1, format!("{word} outside tests"));
            }
        }
        if matches!(module, "model" | "plan") && line.contains("async ") {
            report(number + 1, format!("{module} is not asynchronous"));
        }
        if line.contains("unsafe ") {
            report(number + 1, "unsafe".into());
        }
    }
}

fn sizes(text: &str, code: &str, report: &mut impl FnMut(usize, String)) {
    let lines = text.lines().count();
    if lines > MAX_FILE_LINES {
        report(1, format!("has {lines} lines, more than {MAX_FILE_LINES}"));
    }
    for (name, line, lines) in functions(code) {
        if lines > MAX_FUNCTION_LINES {
            report(line, format!("{name} has {lines} lines, more than {MAX_FUNCTION_LINES}"));
        }
    }
}

/// Every file with this ending below `dir`, as its path from there and its text.
fn files_below(dir: &Path, prefix: &str, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files_below(&entry.path(), &format!("{name}/"), files);
        } else if name.ends_with(".rs") {
            files.push((name, fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

fn sources(dir: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir), "", &mut files);
    files.sort();
    files
}

#[test]
fn the_layers_hold() {
    let all = sources("src");
    let (lib, files): (Vec<_>, Vec<_>) = all.iter().partition(|(path, _)| path == "lib.rs");
    let files: Vec<File<'_>> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    assert!(files.len() > 30, "only {} files were found", files.len());
    let found = violations(&lib[0].1, &files);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn no_test_file_is_forgotten_or_too_long() {
    let all = sources("tests/it");
    let main = &all.iter().find(|(path, _)| path == "main.rs").unwrap().1;
    for (path, text) in &all {
        let name = path.split(['/', '.']).next().unwrap();
        assert!(name == "main" || main.contains(&format!("mod {name};\n")), "main.rs does not name {path}");
        assert!(text.lines().count() <= MAX_FILE_LINES, "{path} is too long");
    }
}

const LIB: &str = "//! x\npub mod support;\npub mod model;\npub mod config;\npub mod plan;\npub mod observe;\n\
                   pub mod act;\npub mod record;\npub mod forge;\npub mod reconcile;\npub mod api;\npub mod app;\npub mod cli;\n";

/// A file, its text, and what is wrong with it.
const PLANTED: [(&str, &str, &str); 37] = [
    ("model/a.rs", "use crate::plan::hash;", "model/a.rs:1: model uses plan, a higher layer"),
    ("model/a.rs", "\nfn f() { crate::cli::run(); }", "model/a.rs:2: model uses cli, a higher layer"),
    ("plan/a.rs", "use crate::{model::id, act};", "plan/a.rs:1: plan uses act, a higher layer"),
    (
        "plan/a.rs",
        "use crate::{\n model::id,\n record::{self, x},\n};",
        "plan/a.rs:3: plan uses record, a higher layer",
    ),
    ("support/mod.rs", "use super::model::id;", "support/mod.rs:1: support uses model, a higher layer"),
    ("plan/a.rs", "use super::super::api;", "plan/a.rs:1: plan uses api, a higher layer"),
    ("plan/a/b.rs", "use super::super::super::api;", "plan/a/b.rs:1: plan uses api, a higher layer"),
    ("act/a.rs", "use crate::observe::x;", "act/a.rs:1: act uses observe; adapters never use each other"),
    ("record/a.rs", "use crate::act::x;", "record/a.rs:1: record uses act; adapters never use each other"),
    ("forge/a.rs", "use crate::record::x;", "forge/a.rs:1: forge uses record; adapters never use each other"),
    ("record/a.rs", "use octocrab::Octocrab;", "record/a.rs:1: record uses octocrab, which is kept in forge"),
    ("observe/mod.rs", "use super::record;", "observe/mod.rs:1: observe uses record, a higher layer"),
    (
        "model/a.rs",
        "#[cfg(test)]\nmod tests { use crate::act; }",
        "model/a.rs:2: model uses act, a higher layer",
    ),
    ("main.rs", "fn main() { kindling::app::run() }", "main.rs:1: main uses app; it may use only cli"),
    ("extra/a.rs", "", "extra/a.rs:1: belongs to no module that lib.rs lists"),
    ("plan/a.rs", "use gix::Repository;", "plan/a.rs:1: plan uses gix, which is kept in observe"),
    ("act/a.rs", "fn f(x: notify::Event) {}", "act/a.rs:1: act uses notify, which is kept in observe"),
    ("api/a.rs", "use sqlx as db;", "api/a.rs:1: api uses sqlx, which is kept in record"),
    (
        "record/a.rs",
        "use sha2::{Digest, Sha256};",
        "record/a.rs:1: record uses sha2, which is kept in plan, api",
    ),
    (
        "plan/a.rs",
        "use serde_saphyr::Spanned;",
        "plan/a.rs:1: plan uses serde_saphyr, which is kept in config",
    ),
    ("app.rs", "#[derive(clap::Parser)] struct A;", "app.rs:1: app uses clap, which is kept in cli"),
    (
        "api/a.rs",
        "use tracing_subscriber::fmt;",
        "api/a.rs:1: api uses tracing_subscriber, which is kept in support",
    ),
    ("plan/a.rs", "use jiff::Timestamp;", "plan/a.rs:1: plan uses jiff, which is kept in model, support"),
    ("model/a.rs", "use tokio::sync::mpsc;", "model/a.rs:1: model uses tokio; it is pure"),
    ("plan/a.rs", "fn f() { std::fs::read(x); }", "plan/a.rs:1: plan uses std::fs; it is pure"),
    ("plan/a.rs", "use std::{fmt, fs};", "plan/a.rs:1: plan uses std::fs; it is pure"),
    (
        "model/a.rs",
        "use std::{collections::BTreeMap, env::{self}};",
        "model/a.rs:1: model uses std::env; it is pure",
    ),
    ("plan/a.rs", "use std::process::ExitCode;", "plan/a.rs:1: plan uses std::process; it is pure"),
    ("plan/a.rs", "fn f() { std::time::Instant::now(); }", "plan/a.rs:1: plan uses Instant::now; it is pure"),
    (
        "model/a.rs",
        "use std::time::{Duration, SystemTime};",
        "model/a.rs:1: model uses SystemTime; it is pure",
    ),
    (
        "model/a.rs",
        "#[derive(serde::Serialize)] struct A;",
        "model/a.rs:1: model uses serde; each edge owns its formats",
    ),
    ("config/a.rs", "use tokio::fs;", "config/a.rs:1: config uses tokio; it is not asynchronous"),
    (
        "observe/a.rs",
        "use std::process::{Command, Stdio};",
        "observe/a.rs:1: observe starts a process; only act does",
    ),
    ("plan/a.rs", "async fn f() {}", "plan/a.rs:1: plan is not asynchronous"),
    ("api/a.rs", "fn f() {\n x\n .unwrap();\n}", "api/a.rs:3: .unwrap() outside tests"),
    ("api/a.rs", "fn f() { x.expect(\"y\") }", "api/a.rs:1: .expect( outside tests"),
    ("api/a.rs", "fn f() { panic!(\"y\") }", "api/a.rs:1: panic!( outside tests"),
];

#[test]
fn planted_violations_are_caught() {
    let long_function = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(99));
    let long_file = "//\n".repeat(601);
    let sizes = [
        ("api/a.rs", long_function.as_str(), "api/a.rs:1: f has 101 lines, more than 100"),
        ("api/a.rs", long_file.as_str(), "api/a.rs:1: has 601 lines, more than 600"),
    ];
    for (path, text, expected) in PLANTED.into_iter().chain(sizes) {
        assert_eq!(violations(LIB, &[(path, text)]), [expected], "{text}");
    }
}

#[test]
fn what_is_allowed_is_not_reported() {
    let cases = [
        ("cli/a.rs", "use crate::{api, app::App, config, support};\nuse clap::Parser;"),
        ("plan/a.rs", "use super::hash;\nuse crate::config::yaml;\nuse super::super::model::id;"),
        (
            "plan/a.rs",
            "// use crate::act;\n/* use tokio::x; /* std::fs */ */\nconst A: &str = \"crate::act::x .unwrap()\";",
        ),
        (
            "plan/a.rs",
            "const A: &str = r#\"use std::fs; \" async fn\"#;\nconst B: char = '\"';\nfn f<'a>(x: &'a str) {}",
        ),
        (
            "plan/a.rs",
            "#[cfg(test)]\nmod tests {\n use std::fs;\n fn f() { x.unwrap(); tokio::spawn(y) }\n}\nfn g() {}",
        ),
        ("api/a.rs", "fn f(notify: Notify) { notify.send(); notify }\nfn act() { x.act::<u8>() }"),
        (
            "api/a.rs",
            "fn f() { x.unwrap_or(1).unwrap_or_default(); }\n#[expect(clippy::x, reason = \"y\")]\nfn g() {}",
        ),
        ("act/a.rs", "use tokio::process::Command;\nuse std::process::Stdio;"),
        ("main.rs", "fn main() -> std::process::ExitCode { kindling::cli::main() }"),
        ("support/a.rs", "use tracing_subscriber::fmt;\nuse std::{env, fs};\nuse jiff::tz;"),
    ];
    for (path, text) in cases {
        assert_eq!(violations(LIB, &[(path, text)]), Vec::<String>::new(), "{text}");
    }
    // A module that is there for tests alone, in a file of its own.
    let files = [
        ("plan/a.rs", "#[cfg(test)]\npub(crate) mod fake;\n"),
        ("plan/a/fake.rs", "use std::fs;\nfn f() { x.unwrap() }"),
        ("plan/mod.rs", "#[cfg(test)]\nmod tests;\npub mod a;"),
        ("plan/tests.rs", "fn f() { panic!() }"),
    ];
    assert_eq!(violations(LIB, &files), Vec::<String>::new());
    assert_eq!(violations(LIB, &files[1..2]).len(), 2);
}

#[test]
fn paths_are_found_in_groups() {
    let found: Vec<String> = paths("use a::{b, c::{self, d}, *};\nlet x = f::<G>(h.i, j::k);")
        .into_iter()
        .map(|at| format!("{}{} {}", at.line, if at.is_use { " use" } else { "" }, at.parts.join("::")))
        .collect();
    let expected = ["1 use", "1 use a::b", "1 use a::c::self", "1 use a::c::d", "2 let", "2 x", "2 f"];
    assert_eq!(found[..7], expected);
    assert_eq!(found[7..], ["2 G", "2 h", "2 j::k"]);
}
