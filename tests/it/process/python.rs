//! Python scripts: `main` and programs.

use std::time::{Duration, Instant};

use kindling::model::run::Stream;
use kindling::model::spec::ParamValue;
use serde_json::json;

use super::bench::{Bench, finish, has, line};

macro_rules! needs_python {
    () => {
        if !has("python3") {
            return;
        }
    };
}

#[tokio::test]
async fn main_gets_by_keyword_what_its_signature_takes() {
    needs_python!();
    let bench = Bench::new();
    let cases = [
        ("def main(): return 1", json!(1)),
        ("def main(input): return input", json!({"a": [1, null]})),
        (
            "def main(params, *, input=None): return [params['n'], params['who'], input['a'][0]]",
            json!([3, "you", 1]),
        ),
        ("async def main(params): return params['flag']", json!(true)),
        ("def main(**all): return sorted(all)", json!(["input", "kv", "log", "output", "params"])),
        ("def main(params, other=5): return other", json!(5)),
        ("import functools\ndef f(x, params): return x\nmain = functools.partial(f, 7)", json!(7)),
        ("class A:\n  def run(self, input): return input['a']\nmain = A().run", json!([1, null])),
        (
            "import functools\ndef deco(f):\n  @functools.wraps(f)\n  def inner(*a, **k): return f(*a, **k)\n  return inner\n\
             @deco\ndef main(input): return 'wrapped'",
            json!("wrapped"),
        ),
        ("def main(): return None", json!(null)),
        ("def main(): pass", json!(null)),
    ];
    for (script, expected) in cases {
        let job = bench.python(script).input(r#"{"a": [1, null]}"#);
        let job =
            job.param("n", ParamValue::Number("3".into())).param("who", ParamValue::String("you".into()));
        let done = job.param("flag", ParamValue::Boolean(true)).run().await;
        assert_eq!(done.well(), expected, "{script}");
    }
}

#[tokio::test]
async fn numbers_keep_every_digit() {
    needs_python!();
    let bench = Bench::new();
    let big = "[123456789012345678901234567890]";
    let done = bench.python("def main(input): return input").input(big).run().await;
    assert_eq!(done.exit.output.as_deref(), Some(big));
}

#[tokio::test]
async fn what_main_prints_is_log_and_what_it_returns_is_output() {
    needs_python!();
    let bench = Bench::new();
    let script = "import sys\nprint('at import')\ndef main(log):\n  print('{\"not\": \"output\"}')\n  log.info('hello %s', 'you')\n  \
                  log.warn('careful', 1)\n  log.error('two\\nlines')\n  log.debug('\\x1b[31m')\n  print('e', file=sys.stderr)\n  return {'ok': True}\n";
    let done = bench.python(script).run().await;
    assert_eq!(done.well(), json!({"ok": true}));
    assert_eq!(done.of(Stream::Stdout), ["at import", "{\"not\": \"output\"}"]);
    assert_eq!(done.of(Stream::Stderr), ["e"]);
    let log = ["hello you", "warn: careful 1", "error: two", "lines", "debug: \\x1b[31m"];
    assert_eq!(done.of(Stream::Log), log);
}

#[tokio::test]
async fn lines_come_when_they_are_written() {
    needs_python!();
    let bench = Bench::new();
    let script = "import time\ndef main():\n  print('now')\n  time.sleep(1000)\n";
    let mut started = bench.python(script).start().await.unwrap();
    assert_eq!(line(&mut started).await, "now");
    started.stop.stop();
    assert!(finish(started).await.exit.stopped);
}

#[tokio::test]
async fn without_main_the_script_is_a_program() {
    needs_python!();
    let bench = Bench::new();
    let script = "import json, os, sys\ndata = json.load(sys.stdin)\nif __name__ == '__main__':\n  \
                  print(json.dumps([data, os.environ['PARAM_N'], sys.argv[1:], os.path.basename(__file__)]))\n";
    let job = bench.python(script).input("{\"x\": 1}").param("n", ParamValue::Number("4".into()));
    assert_eq!(job.run().await.well(), json!([{"x": 1}, "4", [], "task.py"]));
    // Only what stands at the top level counts, and not what only a command line runs.
    let script =
        "def helper():\n  def main(): pass\nif __name__ == '__main__':\n  main = print\n  main('program')\n";
    assert_eq!(bench.python(script).run().await.well(), json!("program"));
    let done = bench.python("import sys\nprint('half')\nsys.exit(4)\n").run().await;
    assert_eq!((done.exit.code, done.output(), done.exit.error.clone()), (Some(4), json!("half"), None));
    // Threads of a program are waited for, as Python does.
    let script = "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()\n";
    assert_eq!(bench.python(script).run().await.well(), json!("thread"));
}

#[tokio::test]
async fn a_helper_beside_the_entry_is_found() {
    needs_python!();
    let bench = Bench::new();
    let mut job = bench
        .python("")
        .file("src/job.py", "from lib import part\nimport helper\ndef main(): return part.X + helper.Y\n");
    job.spec.entry = Some("src/job.py".into());
    let job = job
        .file("src/lib/__init__.py", "")
        .file("src/lib/part.py", "X = 40\n")
        .file("src/helper.py", "Y = 2\n");
    assert_eq!(job.run().await.well(), json!(42));
    // The caches that the first run wrote are no change.
    assert_eq!(job.run().await.well(), json!(42));
}

#[tokio::test]
async fn an_exception_fails_the_run_and_its_trace_names_the_users_file() {
    needs_python!();
    let bench = Bench::new();
    let cases = [
        ("def main():\n  raise ValueError('bad thing\\nmore')\n", "ValueError: bad thing", "line 2, in main"),
        (
            "import asyncio\nasync def main():\n  await asyncio.sleep(0)\n  1 / 0\n",
            "ZeroDivisionError: division by zero",
            "line 4, in main",
        ),
        (
            "x = 1\nraise RuntimeError('at import')\ndef main(): pass\n",
            "RuntimeError: at import",
            "line 2, in <module>",
        ),
        ("print('program')\n{}['key']\n", "KeyError: 'key'", "line 2, in <module>"),
        ("def main(:\n  pass\n", "SyntaxError: ", "task.py\", line 1"),
        ("def main(params, missing): pass\n", "TypeError: main() missing", "missing"),
        (
            "import asyncio\nasync def main(): raise asyncio.CancelledError('away')\n",
            "CancelledError: away",
            "line 2, in main",
        ),
        ("main = 5\n", "TypeError: main is int, not a function", "not a function"),
    ];
    for (script, error, trace) in cases {
        let done = bench.python(script).run().await;
        let exit = &done.exit;
        assert_eq!(exit.code, Some(1), "{done:?}");
        assert!(exit.error.as_deref().is_some_and(|text| text.starts_with(error)), "{done:?}");
        let text = done.of(Stream::Stderr).join("\n");
        assert!(text.contains(trace) && !text.contains("python.py"), "{text}");
    }
}

#[tokio::test]
async fn an_exit_code_of_the_script_counts() {
    needs_python!();
    let bench = Bench::new();
    let exit = |script: &'static str| {
        let job = bench.python(script);
        async move { job.run().await.exit }
    };
    let three = exit("import sys\ndef main(): sys.exit(3)\n").await;
    assert_eq!((three.code, three.error, three.output), (Some(3), None, None));
    let zero = exit("import sys\ndef main(): sys.exit()\n").await;
    assert_eq!((zero.code, zero.error, zero.output.as_deref()), (Some(0), None, Some("null")));
    let text = exit("import sys\ndef main(): sys.exit('no way')\n").await;
    assert_eq!((text.code, text.error), (Some(1), None));
}

#[tokio::test]
async fn a_value_that_is_no_json_is_an_error_that_says_so() {
    needs_python!();
    let bench = Bench::new();
    for value in ["object()", "{1, 2}", "float('nan')", "b'x'", "'\\ud800'", "{(1,): 2}"] {
        let done = bench.python(&format!("def main(): return {value}\n")).run().await;
        let error = done.exit.error.clone().unwrap();
        assert!(error.contains("what main returned cannot be written as JSON"), "{value}: {error}");
        assert_eq!((done.exit.code, done.exit.output), (Some(1), None));
    }
    let done = bench.python("def main(): return 'x' * (17 << 20)\n").run().await;
    assert!(done.exit.error.unwrap().contains("more than the 16777216 allowed"));
}

#[tokio::test]
async fn large_inputs_and_outputs_travel_whole() {
    needs_python!();
    let bench = Bench::new();
    let input = format!("\"{}\"", "y".repeat((16 << 20) - 2));
    let done = bench.python("def main(input): return input").input(&input).run().await;
    assert_eq!((done.exit.error.clone(), done.exit.output.as_ref().map(String::len)), (None, Some(16 << 20)));
}

#[tokio::test]
async fn a_response_is_set_on_the_side() {
    needs_python!();
    let bench = Bench::new();
    let script = "def main(output):\n  output.response({'status': 201, 'headers': {'x-a': 1}, 'body': {'b': 2}})\n  return 'value'\n";
    let done = bench.python(script).run().await;
    assert_eq!(done.well(), json!("value"));
    let response: serde_json::Value = serde_json::from_str(done.exit.response.as_deref().unwrap()).unwrap();
    assert_eq!(response, json!({"status": 201, "headers": {"x-a": "1"}, "body": {"b": 2}}));
    let done = bench.python("def main(output): output.response(status=99)\n").run().await;
    assert!(done.exit.error.unwrap().contains("status is 99"));
}

#[tokio::test]
async fn what_main_left_running_does_not_hold_the_run() {
    needs_python!();
    let bench = Bench::new();
    let thread = "import atexit, threading, time\natexit.register(print, 'cleaned up')\n\
                  def main():\n  threading.Thread(target=time.sleep, args=(1000,)).start()\n  return 'thread'\n";
    let task = "import asyncio\nasync def main():\n  asyncio.create_task(asyncio.sleep(1000))\n  \
                asyncio.get_running_loop().run_in_executor(None, __import__('time').sleep, 1000)\n  return 'task'\n";
    for (script, value) in [(thread, "thread"), (task, "task")] {
        let began = Instant::now();
        let done = bench.python(script).run().await;
        assert_eq!(done.well(), json!(value));
        assert!(began.elapsed() < Duration::from_secs(30), "{value}");
        assert!(value != "thread" || done.of(Stream::Stdout) == ["cleaned up"], "{done:?}");
    }
}

#[tokio::test]
async fn a_daemon_with_main_runs_until_it_is_stopped() {
    needs_python!();
    let bench = Bench::new();
    let script = "import time\ndef main(log):\n  log.info('up')\n  while True: time.sleep(1000)\n";
    let mut started = bench.python(script).daemon().start().await.unwrap();
    assert_eq!(line(&mut started).await, "up");
    started.stop.stop();
    let done = finish(started).await;
    assert_eq!((done.exit.signal, done.exit.stopped, done.exit.output), (Some(15), true, None));
}

#[tokio::test]
async fn processes_of_the_multiprocessing_module_work() {
    needs_python!();
    let bench = Bench::new();
    let script = "import multiprocessing as mp\ndef double(x): return 2 * x\n\
                  def main():\n  with mp.get_context('spawn').Pool(2) as pool:\n    return pool.map(double, [1, 2, 3])\n";
    assert_eq!(bench.python(script).run().await.well(), json!([2, 4, 6]));
}
