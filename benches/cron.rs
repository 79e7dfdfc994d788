//! What schedules cost that have nothing to do, measured on the real binary: the same 10,000 tasks, once started by hand and
//! once by the clock, at times that are far away. Prints figures; asserts only that every schedule is taken up.
//!
//! `cargo bench --bench cron`

#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on has failed")]

#[expect(dead_code, reason = "other benchmarks ask it for more")]
mod service;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use service::Service;

/// Tasks of the source.
const TASKS: usize = 10_000;
/// How long each service is measured: two full scans of its directory, which both make.
const SPAN: Duration = Duration::from_secs(60);

fn main() {
    println!(
        "{:<26} {:>14} {:>10} {:>10}",
        format!("{TASKS} tasks, idle"),
        "CPU ms/minute",
        "of a core",
        "MiB"
    );
    let by_hand = measure("started by hand", |_| "manual: true".into());
    // Every minute of a day, on a day that is months away.
    let by_clock = measure("started by the clock", |task| {
        format!("cron: '{} {} 1 {} *', timezone: Europe/Berlin", task % 60, task / 60 % 24, far())
    });
    println!("{:<26} {:>14.1}", "schedules alone", (by_clock - by_hand).max(0.0));
}

/// A month that is neither this nor the next one.
fn far() -> u64 {
    let days = fs::read_to_string("/proc/stat").unwrap();
    let began: u64 = days.lines().find_map(|line| line.strip_prefix("btime ")).unwrap().parse().unwrap();
    (began / 86_400 % 365 / 31 + 6) % 12 + 1
}

/// The processor time of a service that has nothing to do, in milliseconds a minute.
fn measure(what: &str, trigger: impl Fn(usize) -> String) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("tasks");
    for task in 0..TASKS {
        let dir = source.join(format!("{:02}/t{task}", task % 100));
        fs::create_dir_all(&dir).unwrap();
        let text = format!(
            "apiVersion: kindling/v1\nkind: Task\nname: t{task}\ncommand: ['true']\ntrigger: {{{}}}\n",
            trigger(task)
        );
        fs::write(dir.join("task.yaml"), text).unwrap();
    }
    let service =
        Service::start(dir.path(), &format!("- name: s\n    local: {{path: {}}}\n", source.display()));
    service.wait_for_units(TASKS);
    let is_taken_up = || {
        let next = service.get("/api/v1/units").matches("\"nextRunAt\":\"").count();
        next == if trigger(0).starts_with("cron") { TASKS } else { 0 }
    };
    let deadline = Instant::now() + SPAN;
    while !is_taken_up() {
        assert!(Instant::now() < deadline, "not every schedule was taken up");
        std::thread::park_timeout(Duration::from_millis(100));
    }
    // The first scan after the start is over.
    std::thread::park_timeout(Duration::from_secs(5));
    let (before, began) = (used(dir.path()), Instant::now());
    while began.elapsed() < SPAN {
        std::thread::park_timeout(SPAN);
    }
    let minute = (used(dir.path()) - before) / began.elapsed().as_secs_f64() * 60.0;
    let (memory, _) = service.memory();
    println!("{what:<26} {minute:>14.1} {:>9.3}% {memory:>10.1}", minute / 600.0);
    minute
}

/// Processor time of the service so far, in milliseconds.
fn used(dir: &Path) -> f64 {
    let pid = fs::read_to_string(dir.join("data/lock")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
    // Ticks of 10 ms.
    fields.map(|field| field.parse::<f64>().unwrap() * 10.0).sum()
}
