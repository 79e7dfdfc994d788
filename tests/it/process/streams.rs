//! What a run writes: nothing lost, nothing raw, memory bounded.

use std::time::{Duration, Instant};

use kindling::act::Target;
use kindling::model::run::Stream;
use serde_json::json;

use super::bench::{Bench, bound, finish, gone, is_alive, line};

#[tokio::test]
async fn a_hundred_thousand_lines_lose_nothing() {
    let bench = Bench::new();
    let began = Instant::now();
    let done = bench.shell("seq 1 100000 >&2").run().await;
    println!("100,000 lines in {:?}", began.elapsed());
    let lines = done.of(Stream::Stderr);
    assert_eq!(lines.len(), 100_000);
    assert!(lines.iter().enumerate().all(|(at, line)| *line == (at + 1).to_string()));
}

#[tokio::test]
async fn a_line_of_a_megabyte_comes_in_pieces() {
    let bench = Bench::new();
    let done = bench.shell("head -c 1048576 /dev/zero | tr '\\0' 'z' >&2; printf 'last' >&2").run().await;
    let lines = done.of(Stream::Stderr);
    assert_eq!(lines.concat().len(), (1 << 20) + 4);
    assert!(lines.len() >= 64 && lines.iter().all(|line| line.len() <= (16 << 10) + 1), "{}", lines.len());
}

#[tokio::test]
async fn binary_output_is_escaped_in_the_log() {
    let bench = Bench::new();
    let done = bench.shell(r"printf 'a\000\377\033[31mb\tc\r\nd\303\251' >&2").run().await;
    assert_eq!(done.of(Stream::Stderr), ["a\\x00\\xff\\x1b[31mb\tc", "d\u{e9}"]);
    let done = bench.shell("head -c 300000 /dev/urandom >&2").run().await;
    assert!(done.log.iter().all(|(_, line)| !line.chars().any(|c| c.is_control() && c != '\t')));
    assert!(done.log.iter().map(|(_, line)| line.len()).sum::<usize>() > 300_000);
}

#[tokio::test]
async fn both_streams_are_read_at_once() {
    let bench = Bench::new();
    // Either alone would fill its pipe, were the other one read first.
    let script = "i=0; while [ $i -lt 3000 ]; do echo \"out $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"; \
                  echo \"err $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\" >&2; i=$((i+1)); done";
    let done = bench.shell(script).run().await;
    assert_eq!(done.well().as_str().unwrap().lines().count(), 3000);
    assert_eq!(done.of(Stream::Stderr).len(), 3000);
}

#[tokio::test]
async fn a_reader_that_stalls_stalls_the_run_and_loses_nothing() {
    let bench = Bench::new();
    let mut started = bench.shell("echo $$ >&2; seq 1 200000 >&2; echo finished >&2").start().await.unwrap();
    let pid: i32 = line(&mut started).await.parse().unwrap();
    // Until as many lines wait as may wait, and the pipe is full too.
    bound(async {
        while started.lines.len() < started.lines.max_capacity() || !is_blocked_writing(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(is_alive(pid));
    let done = finish(started).await;
    let lines = done.of(Stream::Stderr);
    assert_eq!((lines.len(), lines[199_999], lines[200_000]), (200_001, "200000", "finished"));
    assert_eq!(done.exit.code, Some(0));
}

/// Whether the shell waits for its child, and that one waits for a pipe.
fn is_blocked_writing(shell: i32) -> bool {
    let children =
        std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap_or_default();
    children.split_whitespace().any(|child| {
        let waits = std::fs::read_to_string(format!("/proc/{child}/wchan")).unwrap_or_default();
        waits.contains("pipe")
            || std::fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|s| s.contains(") S"))
    })
}

#[tokio::test]
async fn a_run_whose_log_nobody_takes_ends_all_the_same() {
    let bench = Bench::new();
    let started = bench.shell("seq 1 100000 >&2; echo done").start().await.unwrap();
    drop(started.lines);
    assert_eq!(bound(started.ended).await.unwrap().output.as_deref(), Some("\"done\""));
}

#[tokio::test]
async fn a_program_that_closes_its_streams_lives_on() {
    let bench = Bench::new();
    let job = bench.shell("echo $$ >&2; exec >&- 2>&- <&-; while [ ! -e go ]; do sleep 0.02; done; exit 5");
    let launch = job.launch();
    let folder = bench.dir.path().join("data/versions").join(launch.version.hash.to_string());
    let mut started = bound(bench.target.start(launch)).await.unwrap();
    let pid: i32 = line(&mut started).await.parse().unwrap();
    bound(async {
        while (0..3).any(|fd| std::fs::symlink_metadata(format!("/proc/{pid}/fd/{fd}")).is_ok()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(is_alive(pid) && started.ended.try_recv().is_err());
    std::fs::write(folder.join("go"), "").unwrap();
    let done = finish(started).await;
    assert_eq!((done.exit.code, done.exit.output), (Some(5), None));
}

#[tokio::test]
async fn a_daemons_stdout_goes_to_the_log() {
    let bench = Bench::new();
    let mut started =
        bench.shell("echo one; echo two; echo $$; exec sleep 1000").daemon().start().await.unwrap();
    assert_eq!((line(&mut started).await, line(&mut started).await), ("one".into(), "two".into()));
    let pid: i32 = line(&mut started).await.parse().unwrap();
    started.stop.stop();
    let done = finish(started).await;
    assert!(done.exit.stopped && done.exit.output.is_none(), "{done:?}");
    gone(pid).await;
    assert_eq!(bench.shell("echo 1").daemon().run().await.of(Stream::Stdout), ["1"]);
    assert_eq!(bench.shell("echo '[1]'").run().await.well(), json!([1]));
}
