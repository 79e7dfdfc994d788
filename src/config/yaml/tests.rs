//! A corpus of what a document means, so that another version of the parser, or another parser, cannot change it
//! unseen.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::config::node::Node;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Doc {
    text: Option<String>,
    word: String,
    port: Option<u16>,
    flag: Option<bool>,
    list: Vec<String>,
    map: BTreeMap<String, i64>,
    any: Option<Value>,
    kind: Option<Kind>,
    entries: Vec<Kind>,
    inner: Option<Inner>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Kind {
    Http { port: u16 },
    Plain,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inner {
    needed: String,
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    read(text.as_bytes(), &Budget::settings()).map_err(|error| {
        let at = error.at.map_or_else(|| "-".into(), |at| format!("{}:{}", at.line, at.column));
        format!("{at} {}", error.message)
    })
}

#[test]
fn plain_scalars_are_text_where_text_is_wanted() {
    let same = [
        "no",
        "on",
        "yes",
        "off",
        "y",
        "true",
        "0755",
        "1_000",
        "0x1F",
        "1.10",
        "1e3",
        "1:30",
        "2001-12-14",
        ".inf",
        "a b",
        "http://x/y?z#w",
        "-x",
        "a:b",
    ];
    for word in same {
        assert_eq!(
            parse::<Doc>(&format!("text: {word}")).map(|doc| doc.text),
            Ok(Some(word.into())),
            "{word}"
        );
    }
    let written = [
        ("'it''s'", "it's"),
        (r#""a\tb\u00e9""#, "a\tb\u{e9}"),
        ("'null'", "null"),
        ("\"\"", ""),
        ("|\n  a\n   b\n", "a\n b\n"),
        (">\n  a\n  b\n\n  c\n", "a b\nc\n"),
        ("|-\n  a\n", "a"),
        ("a\n  b", "a b"),
        ("!!str 5", "5"),
        ("! 5", "5"),
        ("x # comment", "x"),
        ("x#y", "x#y"),
    ];
    for (text, value) in written {
        assert_eq!(
            parse::<Doc>(&format!("text: {text}")).map(|doc| doc.text),
            Ok(Some(value.into())),
            "{text}"
        );
    }
}

#[test]
fn plain_scalars_without_a_wanted_type_follow_yaml_1_2() {
    let values = [
        ("no", json!("no")),
        ("On", json!("On")),
        ("y", json!("y")),
        ("true", json!(true)),
        ("False", json!(false)),
        ("~", json!(null)),
        ("null", json!(null)),
        ("", json!(null)),
        ("0755", json!(755.0)),
        ("1_000", json!(1000)),
        ("0x1F", json!(31)),
        ("0o14", json!(12)),
        ("-7", json!(-7)),
        ("1e3", json!(1000.0)),
        (".5", json!(0.5)),
        ("1:30", json!("1:30")),
        ("2001-12-14", json!("2001-12-14")),
        ("'5'", json!("5")),
        ("!!int '5'", json!(5)),
        ("{a: [1, {b: 2}]}", json!({"a": [1, {"b": 2}]})),
    ];
    for (text, value) in values {
        let expected = Ok((value != Value::Null).then_some(value));
        assert_eq!(parse::<Doc>(&format!("any: {text}")).map(|doc| doc.any), expected, "{text}");
    }
}

#[test]
fn structures_mean_what_they_say() {
    let doc = parse::<Doc>(
        "\u{feff}%YAML 1.2\n---\r\nflag: TRUE\r\nlist:\r\n- a\r\n- b\r\nmap: {a: 1, 2: 2,}\r\n...\r\n",
    )
    .unwrap();
    assert_eq!(doc.flag, Some(true));
    assert_eq!(doc.list, ["a", "b"]);
    assert_eq!(doc.map, BTreeMap::from([("a".into(), 1), ("2".into(), 2)]));

    let merged = parse::<Doc>("map: {<<: {a: 1, b: 2}, b: 3}").unwrap();
    assert_eq!(merged.map, BTreeMap::from([("a".into(), 1), ("b".into(), 3)]));
    let quoted = parse::<Doc>("map: {'<<': 1}").unwrap();
    assert_eq!(quoted.map, BTreeMap::from([("<<".into(), 1)]));
    assert_eq!(parse::<Doc>("list: &l [x]\nany: *l").unwrap().any, Some(json!(["x"])));

    let tagged = parse::<Doc>("kind: plain\nentries: [http: {port: 1}, plain]").unwrap();
    assert_eq!((tagged.kind, tagged.entries), (Some(Kind::Plain), vec![Kind::Http { port: 1 }, Kind::Plain]));
    assert_eq!(parse::<Doc>("list: ~\ntext: ~").unwrap(), Doc::default());
    assert_eq!(
        parse::<Doc>("{\"text\": \"a\\/b\",\n\t\"flag\": true}").unwrap().text.as_deref(),
        Some("a/b")
    );
}

#[test]
fn errors_name_the_place_and_no_value() {
    let cases = [
        ("word: ~", "1:7 expected text, found nothing"),
        ("word: [SECRET]", "1:7 expected text"),
        ("port: SECRET", "1:7 expected a whole number in range, not below 0"),
        ("port: 70000", "1:7 expected a whole number in range, not below 0"),
        ("flag: yes", "1:7 expected `true` or `false`"),
        ("list: SECRET", "1:7 expected a list"),
        ("map:\n  x: SECRET", "2:6 expected a whole number in range"),
        ("- SECRET", "1:1 expected a map"),
        ("kind: htpp", "1:7 unknown value `htpp`; did you mean `http`? known: http, plain"),
        (
            "entries:\n  - plain\n  - http:\n      port: 99999",
            "4:13 expected a whole number in range, not below 0",
        ),
        ("inner:\n  x: 1", "2:3 unknown field `x`; known: needed"),
        ("inner: {}", "1:8 the field `needed` is missing"),
        (
            "wrod: x",
            "1:1 unknown field `wrod`; did you mean `word`? known: text, word, port, flag, list, map, any, kind, entries, inner",
        ),
        ("word: a\nflag: true\nword: SECRET", "3:1 the key `word` is given twice"),
        ("map: {10: 1, 0xa: 2}", "1:14 the key `0xa` is given twice"),
        ("any: {[a]: 1}", "1:7 expected text"),
        ("any: !SECRET x", "1:14 this tag is not supported"),
        ("any: !include SECRET", "1:15 this tag is not supported"),
        ("any: .nan", "1:6 the number is not finite; put it in quotes if it is text"),
        ("any: 1e999", "1:6 the number is not finite; put it in quotes if it is text"),
        ("any: *SECRET", "1:6 this alias names an anchor that is not defined above it"),
        ("any: &a [*a]", "1:10 this alias stands inside what it stands for"),
        ("map: {<<: SECRET}", "1:11 `<<` takes a map or a list of maps"),
        ("text: !!binary SECRET!", "1:16 the value does not fit its tag"),
        ("word: a\n---\nword: b", "3:1 a second document begins here; a file holds one"),
        ("word:\n\ttext: a", "2:2 a tab stands where only spaces may; indent with spaces"),
        ("map:\n  a: 1\n\tb: 2", "2:6 a tab follows this text where only spaces may; indent with spaces"),
        ("word: \"SECRET", "1:7 a quote is not closed"),
        ("any: [SECRET, b", "1:6 a bracket is not closed"),
        ("any: SECRET]\nword: }", "2:7 this bracket closes nothing"),
        (
            "word: a: SECRET",
            "1:8 a `:` cannot stand here; indent the key, or put text with `: ` in it in quotes",
        ),
        ("word: a\nSECRET", "2:1 a `:` is missing after this key"),
        ("word: @SECRET", "1:7 text cannot begin with this character; put it in quotes"),
        ("map:\n    a: 1\n  b: 2", "3:3 a key is expected here; look at its indentation"),
        ("word: \"\\q\"", "1:7 this escape is not known; in single quotes `\\` is itself"),
        ("%YAML 3.0\n---\nword: a", "1:1 not valid YAML: unsupported YAML major version"),
        ("", "1:1 the file is empty"),
        ("\u{feff}# only\n---\n\n", "1:1 the file is empty"),
    ];
    for (text, expected) in cases {
        let error = parse::<Doc>(text).unwrap_err();
        assert_eq!(error, expected, "{text:?}");
        assert!(!error.contains("SECRET"), "{error}");
    }
}

#[test]
fn bytes_that_are_no_text_have_a_place() {
    let error = read::<Doc>(b"word: a\ntext: \xc3\xa9\xff\n", &Budget::settings()).unwrap_err();
    assert_eq!(error.at, Some(Position { line: 2, column: 8 }));
    assert_eq!(error.message, "the file is not UTF-8 from this byte on");
}

#[test]
fn a_file_above_its_size_is_refused_unread() {
    let text = format!("word: {}", "x".repeat(100));
    let error = |budget| read::<Doc>(text.as_bytes(), &budget).unwrap_err();
    let (small, fixed) = (Budget::manifest(64), Budget { bytes: 64, ..Budget::settings() });
    assert_eq!(
        error(small).message,
        "the file has 106 bytes, more than the 64 that `limits.manifest` allows"
    );
    assert_eq!(error(fixed).message, "the file has 106 bytes, more than the 64 that are read");
    assert!(read::<Doc>(text.as_bytes(), &Budget::manifest(106)).is_ok());
}

/// Each list holds nine aliases of the one before: nine to the sixth values in 300 bytes.
fn bomb() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..7 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    text
}

#[test]
fn expansion_is_bounded() {
    let scalar = format!("a: &a {}\nb: [{}]", "x".repeat(100_000), vec!["*a"; 150].join(", "));
    let anchors = format!("{}x{}", "&a [".repeat(31), "]".repeat(31));
    let cases = [
        (bomb(), Err("more than 20000 values, those that aliases stand for included")),
        (scalar, Err("aliases expand to more than four times the file's size")),
        (format!("a: &a x\nb: [{}]", vec!["*a"; 201].join(", ")), Err("more than 200 aliases")),
        (format!("a: &a x\nb: [{}]", vec!["*a"; 200].join(", ")), Ok(())),
        (format!("{}{}", "[".repeat(32), "]".repeat(32)), Ok(())),
        (
            format!("{}{}", "[".repeat(33), "]".repeat(33)),
            Err("more than 32 lists and maps inside one another"),
        ),
        (
            format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
            Err("more than 32 lists and maps inside one another"),
        ),
        ("- ".repeat(33), Err("more than 32 lists and maps inside one another")),
        (format!("[{}]", "1,".repeat(19_999)), Ok(())),
        (
            format!("[{}]", "1,".repeat(20_000)),
            Err("more than 20000 values, those that aliases stand for included"),
        ),
        (format!("{}a: 1", "#\n".repeat(100_000)), Ok(())),
        (anchors, Ok(())),
    ];
    for (text, expected) in cases {
        let found = Node::read(text.as_bytes(), &Budget::settings()).map(drop).map_err(|error| error.message);
        assert_eq!(found, expected.map_err(str::to_owned), "{}", &text[..text.len().min(60)]);
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[ -~\n\t&*!|>'\"%@`{}\\[\\]:,?#-]{0,120}") {
        let _ = Node::read(text.as_bytes(), &Budget::settings());
        let _ = parse::<Doc>(&text);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Node::read(&bytes, &Budget::settings());
    }
}
