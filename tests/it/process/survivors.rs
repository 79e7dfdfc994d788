//! What an earlier kindling left running.

use std::process::Command;

use kindling::act::survivors::end_survivors;
use kindling::model::run::ProcessId;

use super::bench::{Bench, bound, finish, gone, is_alive, line, random};

/// Starts processes as an earlier kindling would have left them: their parent has ended. Gives back the numbers
/// that `script` prints.
fn left_behind(mark: &str, script: &str) -> Vec<i32> {
    let mut parent = Command::new("sh");
    parent.args(["-c", script]).env("KINDLING_MARK", mark).env("KINDLING_RUN", "00000000000000aa");
    let out = parent.output().unwrap();
    String::from_utf8(out.stdout).unwrap().split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn mark() -> String {
    format!("survivors-{:016x}", random())
}

fn identity(pid: i32) -> ProcessId {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned();
    ProcessId { pid, started: fields[19].parse().unwrap(), boot }
}

#[tokio::test]
async fn survivors_with_the_mark_are_ended_and_no_others() {
    let (ours, theirs) = (mark(), mark());
    let script = "setsid sleep 1000 >/dev/null 2>&1 & echo $!; sleep 1000 >/dev/null 2>&1 & echo $!";
    let (mine, other) = (left_behind(&ours, script), left_behind(&theirs, script));
    let ended = bound(end_survivors(&ours, &[])).await;
    assert!(mine.iter().all(|pid| !is_alive(*pid)) && other.iter().all(|pid| is_alive(*pid)));
    let mut pids: Vec<i32> = ended.iter().map(|survivor| survivor.process.pid).collect();
    pids.sort_unstable();
    let mut expected = mine.clone();
    expected.sort_unstable();
    assert_eq!(pids, expected);
    assert!(ended.iter().all(|one| one.is_gone && one.run.as_ref().unwrap().as_str() == "00000000000000aa"));
    assert!(bound(end_survivors(&ours, &[])).await.is_empty());
    assert_eq!(bound(end_survivors(&theirs, &[])).await.len(), 2);
}

#[tokio::test]
async fn a_survivor_that_ignores_term_is_killed() {
    let mark = mark();
    let script =
        "setsid sh -c 'trap \"\" TERM; echo $$; exec >/dev/null 2>&1; while :; do sleep 1000; done' &";
    let pids = left_behind(&mark, script);
    let ended = bound(end_survivors(&mark, &[])).await;
    assert!(!is_alive(pids[0]) && ended.iter().all(|survivor| survivor.is_gone), "{ended:?}");
}

#[tokio::test]
async fn a_recorded_group_is_ended_even_without_the_mark() {
    let script =
        "setsid env -i sh -c 'sleep 1000 >/dev/null 2>&1 & echo $! $$; exec >/dev/null 2>&1; wait' &";
    let pids = left_behind("", script);
    let leader = identity(pids[1]);
    assert_eq!(bound(end_survivors(&mark(), &[leader])).await.len(), 2);
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
}

#[tokio::test]
async fn another_process_with_the_same_number_is_never_signalled() {
    let pids = left_behind("", "setsid env -i sleep 1000 >/dev/null 2>&1 & echo $!");
    let real = identity(pids[0]);
    let older = ProcessId { started: real.started - 1, ..real.clone() };
    let other_boot = ProcessId { boot: "00000000-0000-0000-0000-000000000000".into(), ..real.clone() };
    // A process that leads no group stands for nobody but itself; its group is another's.
    let own = identity(std::process::id().cast_signed());
    assert!(bound(end_survivors(&mark(), &[older, other_boot, own])).await.is_empty());
    assert!(is_alive(pids[0]));
    assert_eq!(bound(end_survivors("", &[real])).await.len(), 1);
    gone(pids[0]).await;
}

#[tokio::test]
async fn a_run_of_a_target_carries_the_mark_and_can_be_found() {
    let bench = Bench::new();
    let mut started =
        bench.shell("echo $$ >&2; setsid sleep 1000 & echo $! >&2; wait").start().await.unwrap();
    let pids: [i32; 2] =
        [line(&mut started).await.parse().unwrap(), line(&mut started).await.parse().unwrap()];
    let ended = bound(end_survivors(&bench.mark, &[])).await;
    assert!(pids.iter().all(|pid| ended.iter().any(|survivor| survivor.process.pid == *pid)), "{ended:?}");
    assert_eq!(finish(started).await.exit.signal, Some(15));
}
