//! The end of a run: time limits, stops, groups, and what must never be left behind.

use std::time::{Duration, Instant};

use kindling::model::run::Stream;
use serde_json::json;

use super::bench::{Bench, Done, SHORT_GRACE, bound, finish, gone, is_alive, line};

/// Prints the numbers of a shell, its child and a grandchild; all stay.
const FAMILY: &str = "(sleep 1000 & echo $! >&2; wait) & echo $! >&2; echo $$ >&2; wait\n";

async fn family(started: &mut kindling::act::Started) -> Vec<i32> {
    let mut pids = Vec::new();
    for _ in 0..3 {
        pids.push(line(started).await.parse().unwrap());
    }
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    pids
}

#[tokio::test]
async fn a_stop_ends_the_whole_group() {
    let bench = Bench::new();
    let mut started = bench.shell(FAMILY).start().await.unwrap();
    let pids = family(&mut started).await;
    let process = started.process.clone().unwrap();
    assert!(pids.contains(&process.pid) && process.started > 0 && !process.boot.is_empty());
    started.stop.clone().stop();
    started.stop.stop();
    let done = finish(started).await;
    // Not one moment later: the end is told when the group is gone.
    assert!(!pids.iter().any(|pid| is_alive(*pid)), "{pids:?}");
    assert_eq!((done.exit.signal, done.exit.code), (Some(15), None));
    assert!(done.exit.stopped && !done.exit.timed_out && done.exit.error.is_none(), "{done:?}");
}

#[tokio::test]
async fn a_time_limit_ends_the_whole_group() {
    let bench = Bench::new();
    let mut started = bench.shell(FAMILY).timeout(Duration::from_secs(2)).start().await.unwrap();
    let pids = family(&mut started).await;
    let done = finish(started).await;
    assert!(!pids.iter().any(|pid| is_alive(*pid)), "{pids:?}");
    assert!(done.exit.timed_out && !done.exit.stopped, "{done:?}");
    assert!(done.of(Stream::System)[0].contains("its time of 2s is over"), "{done:?}");
}

#[tokio::test]
async fn what_ignores_term_is_killed_after_the_grace() {
    let bench = Bench::with_short_grace();
    let script = "trap '' TERM; sleep 1000 & echo $! >&2; echo $$ >&2; while :; do sleep 1000; done\n";
    let mut started = bench.shell(script).start().await.unwrap();
    let pids: [i32; 2] =
        [line(&mut started).await.parse().unwrap(), line(&mut started).await.parse().unwrap()];
    let began = Instant::now();
    started.stop.stop();
    let done = finish(started).await;
    assert!(began.elapsed() >= SHORT_GRACE);
    assert!(!pids.iter().any(|pid| is_alive(*pid)));
    assert_eq!(done.exit.signal, Some(9));
    assert!(done.of(Stream::System)[0].contains("killed"), "{done:?}");
}

#[tokio::test]
async fn a_script_may_end_by_itself_on_term() {
    let bench = Bench::new();
    let script = "trap 'echo bye; exit 7' TERM; echo $$ >&2; while :; do sleep 0.02; done\n";
    let mut started = bench.shell(script).start().await.unwrap();
    line(&mut started).await;
    started.stop.stop();
    let done = finish(started).await;
    assert_eq!((done.exit.code, done.exit.stopped, done.output()), (Some(7), true, json!("bye")));
}

#[tokio::test]
async fn a_stopped_process_is_woken_to_end() {
    let bench = Bench::new();
    let mut started = bench.shell("echo $$ >&2; kill -STOP $$; sleep 1000\n").start().await.unwrap();
    line(&mut started).await;
    started.stop.stop();
    assert_eq!(finish(started).await.exit.signal, Some(15));
}

#[tokio::test]
async fn what_the_main_process_leaves_behind_is_ended() {
    let bench = Bench::new();
    // It holds both pipes open.
    let done = bench.shell("sleep 1000 & echo $!; exit 3\n").run().await;
    let pid: i32 = done.output().as_i64().unwrap().try_into().unwrap();
    assert!(!is_alive(pid));
    assert_eq!((done.exit.code, done.exit.stopped), (Some(3), false));
    assert!(done.of(Stream::System)[0].contains(&pid.to_string()), "{done:?}");
}

/// A helper in the background, ready before the main process ends.
fn helper(on_term: &str) -> String {
    format!(
        "(trap '{on_term}' TERM; echo ready > up; while :; do sleep 0.02; done) & echo $! >&2\n\
         while [ ! -e up ]; do sleep 0.01; done; exit 0\n"
    )
}

#[tokio::test]
async fn what_is_left_behind_and_ignores_term_is_killed() {
    let bench = Bench::with_short_grace();
    let done = bench.shell(&helper("")).run().await;
    let pid: i32 = done.of(Stream::Stderr)[0].parse().unwrap();
    assert!(!is_alive(pid), "{done:?}");
}

#[tokio::test]
async fn what_is_left_behind_may_finish_its_work_on_term() {
    let bench = Bench::new();
    assert_eq!(bench.shell(&helper("echo late; exit")).run().await.well(), json!("late"));
}

/// A process in a session of its own, out of the group's reach.
fn escape(redirect: &str) -> String {
    format!(
        "setsid sh -c 'echo $$ > pid; exec sleep 1000' {redirect} & while [ ! -s pid ]; do sleep 0.01; done; cat pid\n"
    )
}

#[tokio::test]
async fn a_process_that_left_the_group_but_holds_a_pipe_is_ended() {
    let bench = Bench::with_short_grace();
    let done = bench.shell(&escape("")).run().await;
    let pid: i32 = done.output().as_i64().unwrap().try_into().unwrap();
    assert!(!is_alive(pid), "{done:?}");
    assert_eq!(done.exit.code, Some(0));
}

#[tokio::test]
async fn a_daemon_that_forks_away_is_ended_with_its_run() {
    let bench = Bench::with_short_grace();
    let done = bench.shell(&escape("<&- >/dev/null 2>&1")).daemon().run().await;
    let pid: i32 = done.of(Stream::Stdout)[0].parse().unwrap();
    assert!(!is_alive(pid), "{done:?}");
}

#[tokio::test]
async fn a_run_that_nobody_can_hear_of_is_ended() {
    let bench = Bench::new();
    let mut started = bench.shell(FAMILY).start().await.unwrap();
    let pids = family(&mut started).await;
    drop(started);
    for pid in pids {
        gone(pid).await;
    }
}

#[tokio::test]
async fn a_run_goes_on_without_its_handle() {
    let bench = Bench::new();
    let started = bench.shell("sleep 0.3; echo done\n").start().await.unwrap();
    drop((started.stop, started.lines));
    assert_eq!(bound(started.ended).await.unwrap().output.as_deref(), Some("\"done\""));
}

#[test]
fn nothing_is_left_when_the_service_ends_without_a_stop() {
    let bench = Bench::new();
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let service = runtime();
    let (pids, started) = service.block_on(async {
        let mut started = bench.shell(FAMILY).start().await.unwrap();
        (family(&mut started).await, started)
    });
    drop(service);
    drop(started);
    runtime().block_on(async {
        for pid in pids {
            gone(pid).await;
        }
    });
}

#[tokio::test]
async fn many_short_runs_leave_no_process_and_no_descriptor() {
    let bench = Bench::new();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    bench.shell("exit 0").run().await;
    let before = descriptors();
    for _ in 0..30 {
        let done: Done = bench.shell("exit 0").run().await;
        assert_eq!(done.exit.code, Some(0));
    }
    // Other tests run beside this one.
    bound(async {
        while descriptors() > before + 40 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
