use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

#[test]
fn writes_what_javascript_writes() {
    let cases = [
        (" { \"b\" : 1 , \"a\" : [ true , false , null ] } ", r#"{"b":1,"a":[true,false,null]}"#),
        ("[]", "[]"),
        ("{ }", "{}"),
        ("[[],{}]", "[[],{}]"),
        // Numbers.
        ("[0,-0,1.0,1.50,100,1e2,0.1]", "[0,0,1,1.5,100,100,0.1]"),
        (
            "[1e20,1e21,123456789012345680000,1.5e300,1e-6,1e-7,1.25e-9]",
            "[100000000000000000000,1e+21,123456789012345680000,1.5e+300,0.000001,1e-7,1.25e-9]",
        ),
        (
            "[9007199254740993,18446744073709551615,5e-324,1e400,-1e400]",
            "[9007199254740992,18446744073709552000,5e-324,null,null]",
        ),
        (
            "[0.1234567890123456789,2.2250738585072011e-308,-1.7976931348623157e308]",
            "[0.12345678901234568,2.225073858507201e-308,-1.7976931348623157e+308]",
        ),
        // As near below as above, and at a power of two, where the nearest does not lead back.
        (
            "[-1270395895911402.25,1270395895911402.75,5e-324]",
            "[-1270395895911402.2,1270395895911402.8,5e-324]",
        ),
        ("[9007199254740992.5,2.2250738585072014e-308]", "[9007199254740992,2.2250738585072014e-308]"),
        // Texts.
        (r#""\u0041\/\u00e9\ud83d\ude00\u2028""#, "\"A/\u{e9}\u{1f600}\u{2028}\""),
        (
            r#""\u0000\u001F\u0008\u000c\u007f\"\\\b\f\n\r\t""#,
            "\"\\u0000\\u001f\\b\\f\u{7f}\\\"\\\\\\b\\f\\n\\r\\t\"",
        ),
        (r#""\u003chtml\u003E\u0026""#, r#""<html>&""#),
        (
            r#""\uD83D x \ude00 \ud83d\ud83d\ude00 \ud83d\n""#,
            "\"\\ud83d x \\ude00 \\ud83d\u{1f600} \\ud83d\\n\"",
        ),
        // Keys: indexes first, the last of two equal ones in the place of the first.
        (
            r#"{"b":1,"10":2,"9":3,"a":4,"01":5,"-1":6,"0":7}"#,
            r#"{"0":7,"9":3,"10":2,"b":1,"a":4,"01":5,"-1":6}"#,
        ),
        (r#"{"4294967295":1,"4294967294":2,"x":3}"#, r#"{"4294967294":2,"4294967295":1,"x":3}"#),
        (r#"{"a":1,"b":2,"\u0061":3}"#, r#"{"a":3,"b":2}"#),
        (r#"{"__proto__":1,"":2}"#, r#"{"__proto__":1,"":2}"#),
    ];
    for (text, expected) in cases {
        assert_eq!(stringify(text).as_deref(), Some(expected), "{text}");
        assert_eq!(stringify(expected).as_deref(), Some(expected), "{expected}");
    }
}

#[test]
fn what_is_no_json_is_not_written() {
    for text in [
        "",
        " ",
        "{",
        "[",
        "[1",
        "[1,]",
        "[,1]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "01",
        "+1",
        "1.",
        ".5",
        "1e",
        "inf",
        "NaN",
        "-",
        "\"",
        "\"\n\"",
        r#""\x""#,
        r#""\u12""#,
        r#""\u12g4""#,
        r#""\ud83d\u""#,
        "tru",
        "nullx",
        "1 2",
        "[1 2]",
        "{\"a\" 1}",
    ] {
        assert_eq!(stringify(text), None, "{text}");
    }
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(stringify(&nested(MAX_DEPTH)).is_some());
    assert_eq!(stringify(&nested(MAX_DEPTH + 1)), None);
    assert_eq!(stringify(&"[".repeat(1_000_000)), None);
}

/// A JSON text, written in one of the many ways in which it can be.
fn json() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("JSON has only numbers", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
        (any::<i32>(), any::<u32>(), -330..330).prop_map(|(a, b, e)| format!("{a}.{b}E{e:+}")),
        "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,24})?([eE][+-]?[0-9]{1,3})?",
    ];
    let leaf = prop_oneof![Just("null".to_owned()), Just("true".to_owned()), number, text(),];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let members = prop::collection::vec((key(), inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(|all| format!("[ {}]", all.join(" ,"))),
            members.prop_map(|all| {
                let all: Vec<String> = all.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}\n}}", all.join(",\t"))
            }),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[a-z<>&/ é\u{1f600}\u{2028}\u{7f}]{1,4}",
        any::<u16>().prop_map(|unit| format!("\\u{unit:04X}")),
        (0xd700_u16..=0xe100).prop_map(|unit| format!("\\u{unit:04x}")),
        prop::sample::select(vec![
            "\\\"",
            "\\\\",
            "\\/",
            "\\b",
            "\\f",
            "\\n",
            "\\r",
            "\\t",
            "\\ud83d\\ude00"
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        text(),
        "\"[0-9]{1,2}\"",
        "\"[a-c]\"",
        (4_294_967_290_u64..4_294_967_300).prop_map(|n| format!("\"{n}\"")),
        Just("\"9007199254740991\"".to_owned()),
        Just("\"__proto__\"".to_owned()),
    ]
}

/// What node makes of these texts; `None` where there is no node.
fn by_node(texts: &[String]) -> Option<Vec<String>> {
    let script = "const t=JSON.parse(require('fs').readFileSync(0));\
                  process.stdout.write(JSON.stringify(t.map(x=>JSON.stringify(JSON.parse(x)))))";
    let child =
        Command::new("node").args(["-e", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            assert!(std::env::var_os("KINDLING_REQUIRE_TOOLS").is_none(), "node: {error}");
            return None;
        }
    };
    child.stdin.take().unwrap().write_all(serde_json::to_string(texts).unwrap().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// Numbers of every size, and those that lie as near to two short texts as to each other.
#[test]
fn writes_numbers_as_node_does() {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).unwrap();
    let mut state = u64::from_le_bytes(seed);
    println!("seed {state}");
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state ^ (state >> 29)
    };
    let mut texts = Vec::new();
    for _ in 0..10_000 {
        let (bits, near, short) = (next(), next(), next());
        let any = f64::from_bits(bits);
        if any.is_finite() {
            texts.push(format!("{any:e}"));
        }
        texts.push(format!(
            "{}.{}",
            near >> (12 + bits % 20),
            ["5", "25", "75", "125", "0625"][(near % 5) as usize]
        ));
        texts.push(
            format!("{}e{}", short % 1000, (short >> 40) % 700) + if short % 2 == 0 { "" } else { "0" },
        );
        texts.push(format!("-{}e-{}", short % 100_000, (short >> 40) % 350));
    }
    let ours: Vec<String> = texts.iter().map(|text| stringify(text).expect(text)).collect();
    let Some(theirs) = by_node(&texts) else { return };
    for ((text, ours), theirs) in texts.iter().zip(&ours).zip(&theirs) {
        assert_eq!(ours, theirs, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Many texts a case: a start of node takes longer than all of them.
    #[test]
    fn writes_what_node_writes(texts in prop::collection::vec(json(), 100)) {
        let ours: Vec<String> = texts.iter().map(|text| stringify(text).expect(text)).collect();
        for (text, ours) in texts.iter().zip(&ours) {
            prop_assert_eq!(stringify(ours), Some(ours.clone()), "{}", text);
        }
        if let Some(theirs) = by_node(&texts) {
            for ((text, ours), theirs) in texts.iter().zip(&ours).zip(&theirs) {
                prop_assert_eq!(ours, theirs, "{}", text);
            }
        }
    }

    #[test]
    fn never_panics(text in "\\PC{0,40}|[\\[\\]{}\",:0-9eE.+\\\\u d8-]{0,60}") {
        let _ = stringify(&text);
    }
}
