//! TypeScript and JavaScript on Deno and Bun: the contract of Node.js.

use kindling::model::run::Stream;
use kindling::model::spec::{ParamValue, Runtime};
use serde_json::json;

use super::bench::{Bench, Done, has};

/// Those of the two that can be had.
fn runtimes() -> Vec<Runtime> {
    [Runtime::Deno, Runtime::Bun].into_iter().filter(|runtime| has(runtime.interpreter())).collect()
}

async fn run(bench: &Bench, runtime: &Runtime, entry: &str, script: &str) -> Done {
    bench.script(runtime.clone(), entry, script).run().await
}

#[tokio::test]
async fn main_is_found_however_it_is_exported() {
    let bench = Bench::new();
    let cases = [
        (
            "task.ts",
            "interface Given { params: Record<string, number>; input: { a: string } }\n\
             export default async function main({ params, input }: Given): Promise<unknown> { return [params.n, input.a]; }",
        ),
        ("task.ts", "export const main = ({ params, input }: any) => [params.n, input.a];"),
        ("task.js", "export default ({ params, input }) => [params.n, input.a];"),
        ("task.mjs", "const main = async ({ params, input }) => [params.n, input.a]; export { main };"),
        ("task.cjs", "module.exports = async ({ params, input }) => [params.n, input.a];"),
    ];
    for runtime in runtimes() {
        for (entry, script) in cases {
            let job = bench.script(runtime.clone(), entry, script).input(r#"{"a": "x"}"#);
            let done = job.param("n", ParamValue::Number("3".into())).run().await;
            assert_eq!(done.well(), json!([3, "x"]), "{runtime:?} {script}");
            assert!(done.log.is_empty(), "{done:?}");
        }
    }
}

#[tokio::test]
async fn what_main_prints_is_log_and_what_it_returns_is_output() {
    let bench = Bench::new();
    let script = "console.log('at import');\nexport default ({ log, output }: any) => {\n  console.log('{}');\n  \
                  log.info('hello %s', 'you');\n  log.warn('careful');\n  log.error('two\\nlines');\n  \
                  console.error('e');\n  output.response({ status: 201, headers: { a: 1 }, body: [] });\n  \
                  return { ok: 'é'.repeat(100_000).length };\n};\n";
    for runtime in runtimes() {
        let done = run(&bench, &runtime, "task.ts", script).await;
        assert_eq!(done.well(), json!({"ok": 100_000}));
        assert_eq!(done.of(Stream::Stdout), ["at import", "{}"], "{runtime:?}");
        assert_eq!(done.of(Stream::Stderr), ["e"]);
        assert_eq!(done.of(Stream::Log), ["hello you", "warn: careful", "error: two", "lines"]);
        let response = done.exit.response.as_deref().unwrap();
        assert_eq!(response, r#"{"status":201,"headers":{"a":"1"},"body":[]}"#);
        let large = "export default () => 'x'.repeat(3_000_000);";
        assert_eq!(run(&bench, &runtime, "task.ts", large).await.well().as_str().unwrap().len(), 3_000_000);
    }
}

#[tokio::test]
async fn without_main_the_file_is_a_program_and_the_main_module() {
    let bench = Bench::new();
    let program = "import { readFileSync } from 'node:fs';\nconst data = JSON.parse(readFileSync(0, 'utf8'));\n\
                   if (import.meta.main) console.log(JSON.stringify([data, process.env.PARAM_N]));\n\
                   export const x: number = 1;\n";
    for runtime in runtimes() {
        let program = format!("import process from 'node:process';\n{program}");
        let job = bench.script(runtime.clone(), "task.ts", &program).input("{\"x\":1}");
        let done = job.param("n", ParamValue::Number("4".into())).run().await;
        assert_eq!(done.well(), json!([{"x": 1}, "4"]), "{runtime:?}");
        let done = run(&bench, &runtime, "task.ts", "console.log('half'); process.exit(4);").await;
        assert_eq!((done.exit.code, done.output(), done.exit.error.clone()), (Some(4), json!("half"), None));
        // The word is there, a function is not.
        let done = run(&bench, &runtime, "task.ts", "export const main = 1; console.log('[]');").await;
        assert_eq!(done.well(), json!([]), "{runtime:?}");
    }
}

#[tokio::test]
async fn a_helper_and_a_configuration_beside_the_entry_are_found() {
    let bench = Bench::new();
    for runtime in runtimes() {
        let job = bench.script(
            runtime.clone(),
            "src/job.ts",
            "import { x } from './lib/part.ts';\nexport default () => x;\n",
        );
        assert_eq!(
            job.file("src/lib/part.ts", "export const x: number = 42;\n").run().await.well(),
            json!(42)
        );
    }
    if has("deno") {
        let job =
            bench.script(Runtime::Deno, "job.ts", "import { x } from 'part';\nexport default () => x;\n");
        let job = job.file("deno.json", r#"{"imports": {"part": "./lib/part.ts"}}"#);
        let done = job.file("lib/part.ts", "export const x = 43;\n").run().await;
        assert_eq!(done.well(), json!(43));
    }
}

#[tokio::test]
async fn whatever_is_thrown_fails_the_run_and_the_trace_names_the_users_file() {
    let bench = Bench::new();
    let cases = [
        ("export default () => {\n  throw new TypeError('bad thing\\nmore');\n};", "TypeError: bad thing"),
        (
            "export default async () => {\n  await 0;\n  throw new RangeError('later');\n};",
            "RangeError: later",
        ),
        ("\nthrow new RangeError('at import');\nexport default () => 1;", "RangeError: at import"),
        (
            "export default () => new Promise(() => { setTimeout(() => { throw new Error('late'); }, 10); });",
            "Error: late",
        ),
    ];
    for runtime in runtimes() {
        for (script, error) in cases {
            let done = run(&bench, &runtime, "task.ts", script).await;
            assert_eq!(done.exit.code, Some(1), "{done:?}");
            assert!(done.exit.error.as_deref().is_some_and(|text| text.starts_with(error)), "{done:?}");
            assert!(done.of(Stream::Stderr).join("\n").contains("task.ts:"), "{done:?}");
            assert_eq!(done.exit.output, None);
        }
        for (script, error) in [
            ("export default () => { throw 'text'; };", "threw 'text'"),
            ("export default () => new Promise(() => {});", "Error: main did not end"),
            ("export default () => 1n;", "TypeError: what main returned cannot be written as JSON"),
        ] {
            let done = run(&bench, &runtime, "task.ts", script).await;
            assert!(done.exit.error.as_deref().is_some_and(|text| text.starts_with(error)), "{done:?}");
        }
        for script in
            ["export default () => {\n  const = 1;\n};", "import './gone.ts';\nexport default () => 1;"]
        {
            let done = run(&bench, &runtime, "task.ts", script).await;
            assert!(done.exit.code == Some(1) && done.exit.error.is_some(), "{done:?}");
        }
    }
}

#[tokio::test]
async fn timers_do_not_keep_a_run_whose_main_has_returned() {
    let bench = Bench::new();
    for runtime in runtimes() {
        let done =
            run(&bench, &runtime, "task.ts", "export default () => { setInterval(() => {}, 5); return 1; };")
                .await;
        assert_eq!(done.well(), json!(1));
        let done = run(&bench, &runtime, "task.ts", "export default () => process.exit(3);").await;
        assert_eq!((done.exit.code, done.exit.error, done.exit.output), (Some(3), None, None));
    }
}
