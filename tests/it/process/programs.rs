//! Programs: environment, folder, input and output.

use std::collections::BTreeMap;
use std::fs;

use kindling::act::{ActError, Target};
use kindling::model::problem::Reason;
use kindling::model::run::Stream;
use kindling::model::spec::{ParamValue, Runtime};
use kindling::model::unit::FileMode;
use serde_json::json;

use super::bench::{Bench, Done, bound, finish};

#[tokio::test]
async fn the_environment_is_exactly_what_is_promised() {
    let bench = Bench::new();
    let job = bench
        .command(&["env"])
        .env("GREETING", "hello world")
        .env("LANG", "xx_XX.UTF-8")
        .env("KINDLING_RUN", "forged")
        .env("KINDLING_MARK", "forged")
        .param("top-n", ParamValue::Number("3".into()))
        .param("name", ParamValue::String("a=b".into()));
    let launch = job.launch();
    let run = launch.run.to_string();
    let done = finish(bound(bench.target.start(launch)).await.unwrap()).await;
    let output = done.well();
    let all: BTreeMap<&str, &str> =
        output.as_str().unwrap().lines().map(|line| line.split_once('=').unwrap()).collect();
    let mut expected = BTreeMap::from([
        ("GREETING", "hello world".to_owned()),
        ("PARAM_TOP_N", "3".to_owned()),
        ("PARAM_NAME", "a=b".to_owned()),
        ("KINDLING_RUN", run),
        ("KINDLING_TASK", "team/jobs/digest".to_owned()),
        ("KINDLING_MARK", bench.mark.clone()),
    ]);
    for name in ["PATH", "HOME", "USER", "TZ", "TMPDIR"] {
        if let Ok(value) = std::env::var(name) {
            expected.insert(name, value);
        }
    }
    expected.insert("LANG", "xx_XX.UTF-8".to_owned());
    assert_eq!(all, expected.iter().map(|(name, value)| (*name, value.as_str())).collect());
}

#[tokio::test]
async fn no_descriptor_of_kindling_reaches_a_program() {
    let bench = Bench::new();
    let _open = fs::File::open("/dev/null").unwrap();
    let done = bench.command(&["ls", "/proc/self/fd"]).run().await;
    // What whoever started the tests left open for all.
    let plain = std::process::Command::new("ls").arg("/proc/self/fd").output().unwrap().stdout;
    assert_eq!(done.well(), json!(String::from_utf8(plain).unwrap().trim_end()));
}

#[tokio::test]
async fn a_program_runs_in_the_folder_of_its_version() {
    let bench = Bench::new();
    let job = bench.shell("pwd; cat data/x.txt; ls -l run | cut -c1-10").file("data/x.txt", "x\n");
    let job = job.file_of("run", FileMode::Executable, "");
    let launch = job.launch();
    let folder = bench.dir.path().join("data/versions").join(launch.version.hash.to_string());
    let done = finish(bound(bench.target.start(launch)).await.unwrap()).await;
    assert_eq!(done.well(), json!(format!("{}\nx\n-rwxr-xr-x", fs::canonicalize(folder).unwrap().display())));
}

#[tokio::test]
async fn the_input_is_on_standard_input_and_stdout_is_the_output() {
    let bench = Bench::new();
    let done = bench.shell("cat").input(r#"{"a": [1, 2.50]}"#).run().await;
    assert_eq!(done.exit.output.as_deref(), Some(r#"{"a": [1, 2.50]}"#));
    assert!(done.log.is_empty(), "{done:?}");
    let done = bench.shell("read -r line; echo \"got $line\"; echo oops >&2; exit 3").run().await;
    assert_eq!((done.exit.code, done.output()), (Some(3), json!("got null")));
    assert_eq!((done.of(Stream::Stderr), &done.exit.error), (vec!["oops"], &None));
    assert_eq!(bench.shell("exit 0").run().await.exit.output, None);
}

#[tokio::test]
async fn a_program_that_never_reads_its_input_neither_blocks_nor_fails() {
    let bench = Bench::new();
    let large = format!("\"{}\"", "x".repeat(4 << 20));
    for script in ["echo done", "exec <&-; echo done", "read -r -n 1 x 2>/dev/null; echo done"] {
        assert_eq!(bench.shell(script).input(&large).run().await.well(), json!("done"), "{script}");
    }
    assert_eq!(bench.shell("wc -c | tr -d ' '").input(&large).run().await.well(), json!(large.len() + 1));
}

#[tokio::test]
async fn more_output_than_may_be_is_cut_and_the_log_says_so() {
    let bench = Bench::new();
    let done = bench.shell("head -c 3000000 /dev/zero | tr '\\0' 'y'; echo end >&2").run().await;
    assert_eq!(done.well().as_str().unwrap().len(), 1 << 20);
    assert_eq!(done.of(Stream::Stderr), ["end"]);
    assert!(done.of(Stream::System)[0].contains("cut"), "{:?}", done.log);
}

#[tokio::test]
async fn a_command_is_on_path_or_in_the_folder() {
    let bench = Bench::new();
    let own = "#!/bin/sh\necho own \"$@\"\n";
    let job = bench.command(&["./bin/tool", "a b", "c"]).file_of("bin/tool", FileMode::Executable, own);
    assert!(bench.target.check(&job.spec).is_none());
    assert_eq!(job.run().await.well(), json!("own a b c"));
    assert_eq!(bench.command(&["/bin/echo", "x"]).run().await.well(), json!("x"));
    let job = bench.command(&["no-such-program-at-all"]);
    let problem = bench.target.check(&job.spec).unwrap();
    assert_eq!(problem.reason, Reason::MissingInterpreter);
    assert!(problem.message.contains("`no-such-program-at-all`"), "{problem}");
    let error = job.start().await.unwrap_err();
    assert!(
        matches!(&error, ActError::Spawn { source, .. } if source.to_string().contains("not on PATH")),
        "{error:?}"
    );
    let error = bench.command(&["./gone"]).start().await.unwrap_err();
    assert!(matches!(&error, ActError::Spawn { program, .. } if program.ends_with("/gone")), "{error:?}");
}

#[tokio::test]
async fn an_interpreter_is_looked_for_where_the_task_says() {
    let bench = Bench::new();
    for runtime in [Runtime::Shell, Runtime::Python, Runtime::Node] {
        let mut job = bench.shell("").env("PATH", "/nowhere");
        job.spec.runtime = runtime;
        let problem = bench.target.check(&job.spec).unwrap();
        assert_eq!(problem.reason, Reason::MissingInterpreter);
        let program = job.spec.runtime.interpreter();
        assert!(problem.message.contains(program) && problem.message.contains("install"), "{problem}");
    }
    assert!(bench.target.check(&bench.shell("").spec).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_version_is_started_many_times_at_once() {
    let bench = Bench::new();
    // A program file that was just written, while other threads fork: it must not be "busy".
    let job = bench.command(&["./tool"]).file_of("tool", FileMode::Executable, "#!/bin/sh\necho $0\n");
    let launch = job.launch();
    let mut runs = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (target, launch) = (bench.target.clone(), launch.clone());
        runs.spawn(async move { finish(bound(target.start(launch)).await.unwrap()).await });
    }
    let outputs: Vec<_> = bound(runs.join_all()).await.iter().map(Done::well).collect();
    assert!(outputs.iter().all(|output| *output == outputs[0]), "{outputs:?}");
}

#[tokio::test]
async fn a_folder_that_was_changed_is_made_again_before_a_run() {
    let bench = Bench::new();
    let job = bench.shell("cat said.txt").file("said.txt", "as deployed");
    let launch = job.launch();
    let file = bench.dir.path().join("data/versions").join(launch.version.hash.to_string()).join("said.txt");
    assert_eq!(finish(bench.target.start(launch.clone()).await.unwrap()).await.well(), json!("as deployed"));
    fs::write(file, "as tampered").unwrap();
    assert_eq!(finish(bench.target.start(launch.clone()).await.unwrap()).await.well(), json!("as deployed"));
}

#[tokio::test]
async fn a_damaged_blob_is_named() {
    let bench = Bench::new();
    let job = bench.shell("exit 0");
    let launch = job.launch();
    let hash = launch.version.files[0].hash.to_string();
    fs::write(bench.dir.path().join("blobs").join(&hash), "exit 1").unwrap();
    let error = bench.target.start(launch).await.unwrap_err();
    assert!(matches!(error, ActError::Blob { .. }) && error.to_string().contains(&hash), "{error}");
}
