//! JavaScript files: `main` and programs.

use std::time::{Duration, Instant};

use kindling::model::run::Stream;
use kindling::model::spec::ParamValue;
use serde_json::json;

use super::bench::{Bench, finish, has, line};

macro_rules! needs_node {
    () => {
        if !has("node") {
            return;
        }
    };
}

#[tokio::test]
async fn main_is_found_however_it_is_exported() {
    needs_node!();
    let bench = Bench::new();
    let cases = [
        ("task.mjs", "export default async function main({ params, input }) { return [params.n, input.a]; }"),
        ("task.mjs", "export default ({ params, input }) => [params.n, input.a];"),
        ("task.mjs", "const main = async ({ params, input }) => [params.n, input.a]; export { main };"),
        ("task.js", "export default async ({ params, input }) => [params.n, input.a];"),
        ("task.cjs", "module.exports = async ({ params, input }) => [params.n, input.a];"),
        ("task.js", "exports.main = ({ params, input }) => [params.n, input.a];"),
        (
            "task.js",
            "exports.__esModule = true; exports.default = function ({ params, input }) { return [params.n, input.a]; };",
        ),
    ];
    for (entry, script) in cases {
        let job = bench.node(entry, script).input(r#"{"a": "x"}"#);
        let done = job.param("n", ParamValue::Number("3".into())).run().await;
        assert_eq!(done.well(), json!([3, "x"]), "{script}");
        assert!(done.log.is_empty(), "{done:?}");
    }
    for nothing in ["undefined", "null"] {
        let done = bench.node("task.mjs", &format!("export default () => {nothing};")).run().await;
        assert_eq!(done.well(), json!(null));
    }
}

#[tokio::test]
async fn a_module_without_advice_beside_a_package_json() {
    needs_node!();
    let bench = Bench::new();
    let job = bench.node("task.js", "export default () => 1;").file("package.json", "{}");
    let done = job.run().await;
    assert_eq!(done.well(), json!(1));
    assert!(done.log.is_empty(), "{done:?}");
}

#[tokio::test]
async fn what_main_prints_is_log_and_what_it_returns_is_output() {
    needs_node!();
    let bench = Bench::new();
    let script = "console.log('at import');\nexport default ({ log }) => {\n  console.log('{\"not\":\"output\"}');\n  \
                  log.info('hello %s', 'you', { a: 1 });\n  log.warn('careful');\n  log.error('two\\nlines');\n  \
                  log.debug('\\x1b[31m');\n  console.error('e');\n  return { ok: true };\n};\n";
    let done = bench.node("task.mjs", script).run().await;
    assert_eq!(done.well(), json!({"ok": true}));
    assert_eq!(done.of(Stream::Stdout), ["at import", "{\"not\":\"output\"}"]);
    assert_eq!(done.of(Stream::Stderr), ["e"]);
    let log = ["hello you { a: 1 }", "warn: careful", "error: two", "lines", "debug: \\x1b[31m"];
    assert_eq!(done.of(Stream::Log), log);
}

#[tokio::test]
async fn without_main_the_file_is_a_program() {
    needs_node!();
    let bench = Bench::new();
    let common = "const data = JSON.parse(require('fs').readFileSync(0, 'utf8'));\n\
                  if (require.main === module) console.log(JSON.stringify([data, process.env.PARAM_N, process.argv.length]));\n";
    let module = "import fs from 'node:fs';\nconst data = JSON.parse(fs.readFileSync(0, 'utf8'));\n\
                  console.log(JSON.stringify([data, process.env.PARAM_N, process.argv.length]));\nexport const x = 1;\n";
    for (entry, script) in [("task.js", common), ("task.cjs", common), ("task.mjs", module)] {
        let job = bench.node(entry, script).input("{\"x\":1}").param("n", ParamValue::Number("4".into()));
        assert_eq!(job.run().await.well(), json!([{"x": 1}, "4", 2]), "{entry}");
    }
    let done = bench.node("task.mjs", "console.log('half'); process.exit(4);").run().await;
    assert_eq!((done.exit.code, done.output(), done.exit.error.clone()), (Some(4), json!("half"), None));
    let done = bench.node("task.mjs", "export const x = 1; console.log('{}'); process.exit(0);").run().await;
    assert_eq!(done.well(), json!({}));
    // Timers of a program are waited for, as Node.js does.
    let done = bench.node("task.mjs", "export {}; setTimeout(() => console.log('timer'), 100);").run().await;
    assert_eq!(done.well(), json!("timer"));
}

#[tokio::test]
async fn more_than_an_output_before_it_is_known_whether_it_is_one() {
    needs_node!();
    let bench = Bench::new();
    let print = "for (let i = 0; i < 40000; i++) console.log(String(i).padStart(49, '.'));\n";
    let done = bench.node("task.mjs", &format!("{print}export default () => 'returned';")).run().await;
    assert_eq!(done.well(), json!("returned"));
    assert_eq!(done.of(Stream::Stdout).len(), 40_000);
    let done = bench.node("task.mjs", &format!("{print}export const x = 1;")).run().await;
    assert_eq!(done.well().as_str().unwrap().len(), 1 << 20);
}

#[tokio::test]
async fn a_helper_beside_the_entry_is_found() {
    needs_node!();
    let bench = Bench::new();
    let module = bench.node("src/job.mjs", "import { x } from './lib/part.mjs';\nexport default () => x;\n");
    assert_eq!(module.file("src/lib/part.mjs", "export const x = 42;\n").run().await.well(), json!(42));
    let common =
        bench.node("src/job.cjs", "const { x } = require('./lib/part');\nmodule.exports = () => x;\n");
    assert_eq!(common.file("src/lib/part.js", "exports.x = 43;\n").run().await.well(), json!(43));
}

#[tokio::test]
async fn whatever_is_thrown_fails_the_run_and_the_trace_names_the_users_file() {
    needs_node!();
    let bench = Bench::new();
    let cases = [
        (
            "export default () => {\n  throw new TypeError('bad thing\\nmore');\n};",
            "TypeError: bad thing",
            "task.mjs:2",
        ),
        (
            "export default async () => {\n  await 0;\n  null.x;\n};",
            "TypeError: Cannot read properties",
            "task.mjs:3",
        ),
        ("export default () => { throw 'text'; };", "threw 'text'", "text"),
        (
            "\nthrow new RangeError('at import');\nexport default () => 1;",
            "RangeError: at import",
            "task.mjs:2",
        ),
        ("\nthrow new RangeError('program');", "RangeError: program", "task.mjs:2"),
        ("export default () => {\n  const = 1;\n};", "SyntaxError: ", "task.mjs:2"),
        ("import './gone.mjs';\nexport default () => 1;", "Error: Cannot find module", "gone.mjs"),
        (
            "export default () => new Promise(() => { Promise.reject(new Error('unhandled')); setTimeout(() => {}, 1e6); });",
            "Error: unhandled",
            "task.mjs:1",
        ),
        (
            "export default () => new Promise(() => { setTimeout(() => { throw new Error('late'); }, 10); });",
            "Error: late",
            "task.mjs:1",
        ),
        ("export default () => new Promise(() => {});", "Error: main did not end", "did not end"),
    ];
    for (script, error, trace) in cases {
        let done = bench.node("task.mjs", script).run().await;
        assert_eq!(done.exit.code, Some(1), "{done:?}");
        assert!(done.exit.error.as_deref().is_some_and(|text| text.starts_with(error)), "{done:?}");
        assert!(done.of(Stream::Stderr).join("\n").contains(trace), "{done:?}");
        assert_eq!(done.exit.output.as_deref().filter(|text| !text.is_empty()), None, "{done:?}");
    }
    let done =
        bench.node("task.cjs", "module.exports = () => {\n  throw new Error('common');\n};").run().await;
    assert!(done.of(Stream::Stderr).join("\n").contains("task.cjs:2"), "{done:?}");
}

#[tokio::test]
async fn an_exit_code_of_the_script_counts() {
    needs_node!();
    let bench = Bench::new();
    let done = bench.node("task.mjs", "export default () => process.exit(3);").run().await;
    assert_eq!((done.exit.code, done.exit.error, done.exit.output), (Some(3), None, None));
    let done = bench.node("task.mjs", "export default () => process.exit(0);").run().await;
    assert_eq!(done.well(), json!(null));
    let done =
        bench.node("task.mjs", "export default () => { process.exitCode = 2; return 'value'; };").run().await;
    assert_eq!((done.exit.code, done.output()), (Some(2), json!("value")));
    let handled = "process.on('uncaughtException', () => {}); setTimeout(() => { throw new Error('x'); });\n\
                   export default () => new Promise((done) => setTimeout(() => done('on'), 50));";
    assert_eq!(bench.node("task.mjs", handled).run().await.well(), json!("on"));
}

#[tokio::test]
async fn a_value_that_is_no_json_is_an_error_that_says_so() {
    needs_node!();
    let bench = Bench::new();
    for value in ["1n", "() => 1", "(() => { const a = {}; a.a = a; return a; })()", "Symbol('x')"] {
        let done = bench.node("task.mjs", &format!("export default () => ({value});")).run().await;
        let error = done.exit.error.clone().unwrap();
        assert!(error.contains("what main returned cannot be written as JSON"), "{value}: {error}");
        assert_eq!((done.exit.code, done.exit.output), (Some(1), None));
    }
    let done = bench.node("task.mjs", "export default () => 'x'.repeat(17 << 20);").run().await;
    assert!(done.exit.error.unwrap().contains("more than the 16777216 allowed"));
}

#[tokio::test]
async fn large_inputs_and_outputs_travel_whole() {
    needs_node!();
    let bench = Bench::new();
    let input = format!("\"{}\"", "y".repeat((16 << 20) - 2));
    let done = bench.node("task.mjs", "export default ({ input }) => input;").input(&input).run().await;
    assert_eq!((done.exit.error.clone(), done.exit.output.as_ref().map(String::len)), (None, Some(16 << 20)));
}

#[tokio::test]
async fn a_response_is_set_on_the_side() {
    needs_node!();
    let bench = Bench::new();
    let script = "export default ({ output }) => { output.response({ status: 404, headers: { 'x-a': 1 } }); return 'v'; };";
    let done = bench.node("task.mjs", script).run().await;
    assert_eq!(done.well(), json!("v"));
    let response: serde_json::Value = serde_json::from_str(done.exit.response.as_deref().unwrap()).unwrap();
    assert_eq!(response, json!({"status": 404, "headers": {"x-a": "1"}, "body": null}));
    let done =
        bench.node("task.mjs", "export default ({ output }) => output.response({ code: 1 });").run().await;
    assert!(done.exit.error.unwrap().contains("not code"));
}

#[tokio::test]
async fn what_main_left_running_does_not_hold_the_run() {
    needs_node!();
    let bench = Bench::new();
    let began = Instant::now();
    let done = bench
        .node("task.mjs", "export default () => { setInterval(() => {}, 1000); return 'timer'; };")
        .run()
        .await;
    assert_eq!(done.well(), json!("timer"));
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_daemon_with_main_runs_until_it_is_stopped() {
    needs_node!();
    let bench = Bench::new();
    let script =
        "export default ({ log }) => new Promise(() => { log.info('up'); setInterval(() => {}, 1000); });";
    let mut started = bench.node("task.mjs", script).daemon().start().await.unwrap();
    assert_eq!(line(&mut started).await, "up");
    started.stop.stop();
    let done = finish(started).await;
    assert_eq!((done.exit.signal, done.exit.stopped, done.exit.output), (Some(15), true, None));
}

#[tokio::test]
async fn a_process_that_the_script_forks_is_no_run_of_it() {
    needs_node!();
    let bench = Bench::new();
    let script = "import { fork } from 'node:child_process';\nexport default () => new Promise((done) => \
                  fork(new URL('./child.mjs', import.meta.url)).on('message', done));\n";
    let child = "import fs from 'node:fs';\nlet open = true; try { fs.fstatSync(3).isSocket() || (open = false); } catch { open = false; }\n\
                 process.send({ argv: process.argv.length, execArgv: process.execArgv.length });\nprocess.disconnect();\n";
    let done = bench.node("task.mjs", script).file("child.mjs", child).run().await;
    assert_eq!(done.well(), json!({"argv": 2, "execArgv": 0}));
}
