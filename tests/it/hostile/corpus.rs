//! The units that have to be refused: names, links and manifests.

use crate::service::manifest;

/// One unit of the corpus.
pub(super) struct Hostile {
    pub key: &'static str,
    /// Its manifest, where that is what is hostile.
    pub manifest: Option<Vec<u8>>,
    /// What lies beside its manifest and its script.
    pub files: Vec<Thing>,
    pub reason: &'static str,
    pub message: &'static str,
}

/// Something in a unit, by its path.
pub(super) enum Thing {
    File(&'static [u8]),
    Link(&'static [u8], &'static [u8]),
    Module(&'static [u8]),
}

pub(super) const PATH: &str = "RefusedPath";
const YAML: &str = "InvalidManifest";

/// Longer than the limit of a file in these tests.
const LARGE: usize = 70 << 10;
pub(super) const LIMITS: &str = "limits: {file: 64KiB, unit: 128KiB, files: 40, manifest: 64KiB}\n";

pub(super) fn hostile(
    key: &'static str,
    files: Vec<Thing>,
    reason: &'static str,
    message: &'static str,
) -> Hostile {
    Hostile { key, manifest: None, files, reason, message }
}

/// Names and links that no unit may have.
pub(super) fn corpus() -> Vec<Hostile> {
    use Thing::{File, Link};
    let dot_git = "a spelling of `.git`";
    let out = "leads out of the unit";
    let mut all = vec![
        hostile("git-upper", vec![File(b".GIT/hooks/post-checkout")], PATH, dot_git),
        hostile("git-mixed", vec![File(b"a/.gIt")], PATH, dot_git),
        hostile("git-short", vec![File(b"git~1/config")], PATH, dot_git),
        hostile("git-short-upper", vec![File(b"GIT~1")], PATH, dot_git),
        hostile("git-blank", vec![File(b".git /config")], PATH, dot_git),
        hostile("git-dot", vec![File(b".git.")], PATH, dot_git),
        hostile("git-stream", vec![File(b".git::$INDEX_ALLOCATION")], PATH, dot_git),
        hostile("git-joiner", vec![File(".g\u{200c}it/config".as_bytes())], PATH, dot_git),
        hostile("git-mark", vec![File("\u{feff}.git".as_bytes())], PATH, dot_git),
        hostile("name-line", vec![File(b"a\nb")], PATH, "control character"),
        hostile("name-escape", vec![File(b"\x1b[2J")], PATH, "control character"),
        hostile("name-delete", vec![File(b"a\x7f")], PATH, "control character"),
        hostile("name-bytes", vec![File(b"caf\xe9")], PATH, "not valid UTF-8"),
        hostile("name-surrogate", vec![File(b"\xed\xa0\x80")], PATH, "not valid UTF-8"),
        hostile("link-absolute", vec![Link(b"out", b"/etc/passwd")], PATH, out),
        hostile("link-up", vec![Link(b"out", b"../../home")], PATH, out),
        hostile("link-to-sibling", vec![Link(b"out", b"../good/task.sh")], PATH, out),
        hostile("link-through", vec![Link(b"here", b"."), Link(b"out", b"here/../../good")], PATH, out),
        hostile("link-below", vec![Link(b"a/b/out", b"../../../good")], PATH, out),
        hostile("link-chain", vec![Link(b"one", b"two"), Link(b"two", b"../..")], PATH, out),
        hostile("link-manifest-name", vec![Link(b"lib", b"/proc/self/environ")], PATH, out),
        hostile("large-file", vec![File(b"LARGE")], "LimitExceeded", "limits.file"),
        hostile(
            "large-unit",
            vec![File(b"FILL/1"), File(b"FILL/2"), File(b"FILL/3")],
            "LimitExceeded",
            "limits.unit",
        ),
    ];
    all.extend(bombs());
    all
}

/// Lists of aliases of lists of aliases.
fn laughs(levels: usize, wide: usize) -> String {
    let mut text = "params:\n  a0: &a0 [x, x]\n".to_owned();
    for level in 1..levels {
        let before = vec![format!("*a{}", level - 1); wide].join(", ");
        text.push_str(&format!("  a{level}: &a{level} [{before}]\n"));
    }
    text
}

/// Maps that merge one map twice, which merges another one twice.
fn merges(levels: usize) -> String {
    let mut text = "x0: &m0 {k0: 1}\n".to_owned();
    for level in 1..levels {
        let before = level - 1;
        text.push_str(&format!("x{level}: &m{level} {{<<: [*m{before}, *m{before}], k{level}: 1}}\n"));
    }
    text
}

/// Manifests that expand, nest, repeat or lie.
fn bombs() -> Vec<Hostile> {
    let head = |key: &str| manifest(key, "manual: true");
    let long = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(8 << 10), vec!["*a"; 190].join(", "));
    let cases: Vec<(&'static str, String, &'static str)> = vec![
        ("bomb-laughs", laughs(10, 9), ""),
        ("bomb-wide", laughs(4, 150), ""),
        ("bomb-merge", merges(30), ""),
        ("bomb-quadratic", long, ""),
        ("bomb-self", "a: &a [*a]\n".into(), "inside what it stands for"),
        ("bomb-deep", format!("a: {}{}\n", "[".repeat(5000), "]".repeat(5000)), "inside one another"),
        (
            "bomb-block",
            format!("a:\n{}", (1..2000).map(|n| format!("{}- \n", " ".repeat(n % 30))).collect::<String>()),
            "",
        ),
        ("bomb-nodes", format!("a: [{}]\n", vec!["1"; 25_000].join(",")), "values"),
        ("bomb-anchors", (0..3000).map(|n| format!("k{n}: &a{n} 1\n")).collect(), ""),
        ("bomb-documents", "---\n".repeat(500), "document"),
        ("bomb-key", format!("? {}\n: 1\n", "k".repeat(50 << 10)), ""),
        ("bomb-tag", "a: !!binary aGk=\nb: !!python/object/apply:os.system [id]\n".into(), ""),
        ("bomb-number", format!("timeout: {}s\n", "9".repeat(40 << 10)), ""),
        (
            "bomb-pattern",
            format!("exclude: [{}]\n", vec!["'{a,b}{c,d}{e,f}[[:alpha:]]**'"; 200].join(", ")),
            "patterns",
        ),
        ("bomb-unclosed", "a: '\n".into(), "closed"),
        ("bomb-nul", "a: \u{0}\n".into(), ""),
    ];
    let bomb = |(key, text, message): (&'static str, String, &'static str)| Hostile {
        key,
        manifest: Some(format!("{}{text}", head(key)).into_bytes()),
        files: Vec::new(),
        reason: YAML,
        message,
    };
    let mut all: Vec<Hostile> = cases.into_iter().map(bomb).collect();
    let utf16: Vec<u8> = head("bomb-utf16").encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (key, bytes) in [("bomb-utf16", utf16), ("bomb-bytes", b"name: \xff\xfe\n".to_vec())] {
        all.push(Hostile { key, manifest: Some(bytes), files: Vec::new(), reason: YAML, message: "" });
    }
    let large = [head("bomb-large").into_bytes(), vec![b'#'; LARGE]].concat();
    let files = Vec::new();
    all.push(Hostile {
        key: "bomb-large",
        manifest: Some(large),
        files,
        reason: "LimitExceeded",
        message: "limits.manifest",
    });
    all
}

pub(super) fn content(path: &[u8]) -> Vec<u8> {
    match path {
        b"LARGE" => vec![b'x'; LARGE],
        // Not equal: each counts.
        _ if path.starts_with(b"FILL/") => vec![path[5]; 50 << 10],
        _ => b"touch \"$HOME/marker\"\n".to_vec(),
    }
}
