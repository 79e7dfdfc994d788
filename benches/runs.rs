//! What runs cost, measured on the real binary: the log of a run that writes as fast as it can, and the start of a run
//! beyond the start of its program. Prints figures; asserts only that no line is lost.
//!
//! `cargo bench --bench runs [-- PART...]` with the parts logs and runs; both by default.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on has failed")]

#[expect(dead_code, reason = "other benchmarks ask it for more")]
mod service;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use service::Service;

/// Lines of one run.
const LINES: usize = 2_000_000;
/// Starts that are measured of each kind.
const ROUNDS: usize = 40;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|part| !part.starts_with('-')).collect();
    let runs = |part: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == part);
    if runs("logs") {
        logs(false);
        logs(true);
    }
    if runs("runs") {
        let columns = format!("{:>10} {:>10} {:>10}", "kindling", "by hand", "more");
        println!("{:<16} {columns} {columns} {:>7}", "start: p50, least", "count");
        starts();
    }
}

/// A run that writes lines as fast as they are taken; beside a reader that stalls, or alone.
fn logs(with_reader: bool) {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("tasks");
    let argv = format!(
        "command: [sh, -c, 'sleep 0.2; seq -f \"line %.0f of a log that is written quickly\" {LINES} >&2']\n"
    );
    manifest(&source, "log", &argv);
    let service = start(dir.path(), &source, 1);
    let (before, _) = service.memory();
    let began = Instant::now();
    let run = id(&service.post("/api/v1/runs", "{\"task\":\"log\"}"));
    let path = format!("/api/v1/runs/{run}");
    // It takes the first lines and then none: its connection is full after a moment.
    let stalled = with_reader.then(|| service.call("GET", &format!("{path}/log?follow=true"), ""));
    let mut most = before;
    loop {
        let answer = service.get(&path);
        most = most.max(service.memory().0);
        if answer.contains("\"succeeded\"") {
            break;
        }
        assert!(answer.contains("\"running\""), "{answer}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let took = began.elapsed() - Duration::from_millis(200);
    let last = service.get(&format!("{path}/log?after={}", LINES - 1));
    assert!(last.contains(&format!("\"seq\":{LINES},")), "{last}");
    assert!(last.contains(&format!("line {LINES} of a log")), "{last}");
    drop(stalled);
    println!(
        "{LINES} lines of log{}: {:.0} lines/s, {before:.1} MiB before, at most {most:.1} MiB, {:.1} MiB more",
        if with_reader { " beside a reader that stalls" } else { "" },
        LINES as f64 / took.as_secs_f64(),
        most - before
    );
}

/// From the call that starts a run to the first thing that its script does, and the same script started by hand.
fn starts() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("tasks");
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let python = "import os\nos.write(os.open(os.environ['PIPE'], os.O_WRONLY), b'.\\n')\n";
    let python_main =
        "import os\ndef main():\n  os.write(os.open(os.environ['PIPE'], os.O_WRONLY), b'.\\n')\n";
    let script = "import fs from 'node:fs';\nfs.writeFileSync(process.env.PIPE, '.\\n');\n";
    let deno = "import process from 'node:process';\nimport fs from 'node:fs';\n";
    let deno_main = format!("{deno}export default () => fs.writeFileSync(process.env.PIPE, '.\\n');\n");
    let deno = format!("{deno}fs.writeFileSync(process.env.PIPE, '.\\n');\n");
    let script_main =
        "import fs from 'node:fs';\nexport default () => fs.writeFileSync(process.env.PIPE, '.\\n');\n";
    let ruby = "File.write(ENV['PIPE'], \".\\n\")\n";
    let ruby_main = "def main = File.write(ENV['PIPE'], \".\\n\")\n";
    let all: [(&str, &str, &[&str], &str, &str); 10] = [
        ("shell", "task.sh", &["sh"], "echo . >\"$PIPE\"\n", "echo . >\"$PIPE\"\n"),
        ("python", "task.py", &["python3"], python, python),
        ("python (main)", "task.py", &["python3"], python_main, python),
        ("node", "task.mjs", &["node"], script, script),
        ("node (main)", "task.mjs", &["node"], script_main, script),
        ("bun", "task.js", &["bun", "run"], script, script),
        ("bun (main)", "task.js", &["bun", "run"], script_main, script),
        ("deno", "task.js", &["deno", "run", "--allow-all"], &deno, &deno),
        ("deno (main)", "task.js", &["deno", "run", "--allow-all"], &deno_main, &deno),
        ("ruby (main)", "task.rb", &["ruby"], ruby_main, ruby),
    ];
    let there: Vec<_> = all.into_iter().filter(|(_, _, program, ..)| is_there(program[0])).collect();
    for (at, (what, entry, _, ours, plain)) in there.iter().enumerate() {
        let runtime = what.split(' ').next().unwrap();
        let task = format!("t{at}");
        manifest(
            &source,
            &task,
            &format!("runtime: {runtime}\nentry: {entry}\nenv: {{PIPE: '{}'}}\n", pipe.display()),
        );
        fs::write(source.join(&task).join(entry), ours).unwrap();
        fs::create_dir_all(dir.path().join("plain").join(&task)).unwrap();
        fs::write(dir.path().join("plain").join(&task).join(entry), plain).unwrap();
    }
    let service = start(dir.path(), &source, there.len());
    // One that holds it open for writing keeps it from ending between two rounds.
    let mut signs = BufReader::new(fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap());
    for (at, (what, entry, program, ..)) in there.iter().enumerate() {
        let script = dir.path().join(format!("plain/t{at}")).join(entry);
        let (mut ours, mut plain) = (Vec::new(), Vec::new());
        // In turns, so that a busy machine is as busy for both. The first round warms caches.
        for round in 0..=ROUNDS {
            let with = ours_start(&service, &format!("t{at}"), &mut signs);
            let without = plain_start(program, &script, &pipe, &mut signs);
            if round > 0 {
                ours.push(with);
                plain.push(without);
            }
        }
        print(what, ours, plain);
    }
}

fn ours_start(service: &Service, task: &str, signs: &mut BufReader<File>) -> Duration {
    let began = Instant::now();
    let call = service.call("POST", "/api/v1/runs", &format!("{{\"task\":\"{task}\"}}"));
    let took = sign(signs, began);
    let run = id(&call.rest());
    service.get(&format!("/api/v1/runs/{run}/wait"));
    took
}

fn plain_start(program: &[&str], script: &Path, pipe: &PathBuf, signs: &mut BufReader<File>) -> Duration {
    let began = Instant::now();
    let mut command = Command::new(program[0]);
    // As bare an environment as a run has: what else is in it can cost an interpreter its time.
    command.args(&program[1..]).arg(script).env_clear().env("PIPE", pipe);
    command.envs(["PATH", "HOME"].iter().filter_map(|name| Some((name, std::env::var(name).ok()?))));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let took = sign(signs, began);
    child.wait().unwrap();
    took
}

fn sign(signs: &mut BufReader<File>, began: Instant) -> Duration {
    let mut line = String::new();
    signs.read_line(&mut line).unwrap();
    began.elapsed()
}

/// The middle of all, and the least: what the machine does besides only ever adds.
fn print(what: &str, mut ours: Vec<Duration>, mut plain: Vec<Duration>) {
    ours.sort();
    plain.sort();
    let ms = |times: &[Duration], at: usize| times[at].as_secs_f64() * 1e3;
    let mut line = format!("{what:<16}");
    for at in [ours.len() / 2, 0] {
        let (ours, plain) = (ms(&ours, at), ms(&plain, at));
        write!(line, " {ours:>7.1} ms {plain:>7.1} ms {:>7.1} ms", ours - plain).unwrap();
    }
    println!("{line} {:>7}", ours.len());
}

fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok() || program == "sh";
    if !there {
        println!("{program:<24} passed over: it is not installed");
    }
    there
}

fn manifest(source: &Path, task: &str, rest: &str) {
    let dir = source.join(task);
    fs::create_dir_all(&dir).unwrap();
    let text = format!(
        "apiVersion: kindling/v1\nkind: Task\nname: {task}\ntrigger: {{manual: true}}\ntimeout: 10m\n{rest}"
    );
    fs::write(dir.join("task.yaml"), text).unwrap();
}

fn start(dir: &Path, source: &Path, tasks: usize) -> Service {
    let service = Service::start(dir, &format!("- name: s\n    local: {{path: {}}}\n", source.display()));
    service.wait_for_units(tasks);
    service
}

/// The id of the run that an answer is about.
fn id(answer: &str) -> String {
    let from = answer.find("\"id\":\"").unwrap_or_else(|| panic!("{answer}")) + 6;
    answer[from..from + 16].to_owned()
}
