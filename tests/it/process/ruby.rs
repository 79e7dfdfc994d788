//! Ruby scripts: `main` and programs.

use kindling::model::run::Stream;
use kindling::model::spec::{ParamValue, Runtime};
use serde_json::json;

use super::bench::{Bench, Job, has};

fn ruby<'a>(bench: &'a Bench, script: &str) -> Job<'a> {
    bench.script(Runtime::Ruby, "task.rb", script)
}

#[tokio::test]
async fn main_gets_what_its_signature_takes() {
    if !has("ruby") {
        return;
    }
    let bench = Bench::new();
    for (script, output) in [
        ("def main(params:, input:)\n  [params[\"n\"], input[\"a\"]]\nend\n", json!([3, "x"])),
        ("def main(params:, log:, output:, input: nil) = input\n", json!({"a": "x"})),
        (
            "def main(**given) = given.keys.map(&:to_s).sort\n",
            json!(["input", "kv", "log", "output", "params"]),
        ),
        ("def main = nil\n", json!(null)),
        ("def self.main(params:) = params\n", json!({"n": 3})),
    ] {
        let job = ruby(&bench, script).input(r#"{"a": "x"}"#).param("n", ParamValue::Number("3".into()));
        let done = job.run().await;
        assert_eq!(done.well(), output, "{script}");
        assert!(done.log.is_empty(), "{done:?}");
    }
}

#[tokio::test]
async fn what_main_prints_is_log_and_what_it_returns_is_output() {
    if !has("ruby") {
        return;
    }
    let bench = Bench::new();
    let script = "puts 'at load'\ndef main(log:, output:)\n  puts '{}'\n  warn 'e'\n  log.info('hello %s', 'you')\n  \
                  log.warn('50%')\n  log.error(\"two\\nlines\")\n  output.response(status: 201, body: [])\n  \
                  Thread.new { sleep }\n  { ok: 'é' }\nend\n";
    let done = ruby(&bench, script).run().await;
    assert_eq!(done.well(), json!({"ok": "é"}));
    assert_eq!(done.of(Stream::Stdout), ["at load", "{}"]);
    assert_eq!(done.of(Stream::Stderr), ["e"]);
    assert_eq!(done.of(Stream::Log), ["hello you", "warn: 50%", "error: two", "lines"]);
    assert_eq!(done.exit.response.as_deref(), Some(r#"{"status":201,"headers":{},"body":[]}"#));
}

#[tokio::test]
async fn without_main_the_file_is_a_program() {
    if !has("ruby") {
        return;
    }
    let bench = Bench::new();
    let script = "require_relative 'lib/part'\nputs [$stdin.read.strip, ENV['PARAM_N'], ARGV.size, X].inspect if __FILE__ == $0\n";
    let job = ruby(&bench, script).file("lib/part.rb", "X = 1\n").input("7");
    let done = job.param("n", ParamValue::Number("4".into())).run().await;
    assert_eq!(done.well(), json!(["7", "4", 0, 1]));
    let done = ruby(&bench, "puts 'half'\nexit 4\n").run().await;
    assert_eq!((done.exit.code, done.output(), done.exit.error.clone()), (Some(4), json!("half"), None));
}

#[tokio::test]
async fn whatever_is_raised_fails_the_run_and_the_trace_names_the_users_file() {
    if !has("ruby") {
        return;
    }
    let bench = Bench::new();
    for (script, error) in [
        ("def main\n  raise ArgumentError, \"bad thing\\nmore\"\nend\n", "ArgumentError: bad thing"),
        ("\nraise 'program'\n", "RuntimeError: program"),
        ("def main(\n  = 1\nend\n", "SyntaxError: "),
        ("require_relative 'gone'\ndef main = 1\n", "LoadError: cannot load such file"),
        ("def main(other:) = 1\n", "ArgumentError: missing keyword: :other"),
        ("def main = Float::NAN\n", "TypeError: what main returned cannot be written as JSON"),
    ] {
        let done = ruby(&bench, script).run().await;
        assert_eq!(done.exit.code, Some(1), "{done:?}");
        assert!(done.exit.error.as_deref().is_some_and(|text| text.starts_with(error)), "{done:?}");
        assert_eq!(done.exit.output, None);
        let trace = done.of(Stream::Stderr).join("\n");
        assert!(trace.contains("task.rb") || error.starts_with("TypeError"), "{done:?}");
    }
    let done = ruby(&bench, "def main = exit(3)\n").run().await;
    assert_eq!((done.exit.code, done.exit.error, done.exit.output), (Some(3), None, None));
}
