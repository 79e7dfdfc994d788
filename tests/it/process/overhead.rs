//! What a run costs beyond its interpreter's own start.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kindling::act::Target;

use super::bench::{Bench, Job, bound, finish, has};

const ROUNDS: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_costs_little_beyond_the_interpreters_own() {
    let bench = Bench::new();
    let shell = "echo up >&2\n";
    let python = "import os\nos.write(2, b'up\\n')\n";
    let python_main = "import os\ndef main(): os.write(2, b'up\\n')\n";
    let common = "require('node:fs').writeSync(2, 'up\\n');\n";
    let common_main = "module.exports = () => require('node:fs').writeSync(2, 'up\\n');\n";
    let module = "import fs from 'node:fs';\nfs.writeSync(2, 'up\\n');\n";
    let module_main = "import fs from 'node:fs';\nexport default () => fs.writeSync(2, 'up\\n');\n";
    let cases: [(&str, &str, &str, Job<'_>); 7] = [
        ("sh", "plain.sh", shell, bench.shell(shell)),
        ("python3", "plain.py", python, bench.python(python)),
        ("python3", "plain.py (main)", python, bench.python(python_main)),
        ("node", "plain.cjs", common, bench.node("task.cjs", common)),
        ("node", "plain.cjs (main)", common, bench.node("task.cjs", common_main)),
        ("node", "plain.mjs", module, bench.node("task.mjs", module)),
        ("node", "plain.mjs (main)", module, bench.node("task.mjs", module_main)),
    ];
    for (program, what, plain, job) in cases {
        if program != "sh" && !has(program) {
            continue;
        }
        let script = bench.dir.path().join(what.split(' ').next().unwrap());
        std::fs::write(&script, plain).unwrap();
        let (mut plain, mut ours) = (Vec::new(), Vec::new());
        // In turns, so that a busy machine is as busy for both.
        for _ in 0..ROUNDS {
            plain.push(plain_start(program, &script));
            let began = Instant::now();
            let mut started = bound(bench.target.start(job.launch())).await.unwrap();
            assert_eq!(bound(started.lines.recv()).await.unwrap().1, "up");
            ours.push(began.elapsed());
            assert_eq!(finish(started).await.exit.code, Some(0));
        }
        // The least of many: what the machine does besides only ever adds.
        let (plain, ours) = (plain.into_iter().min().unwrap(), ours.into_iter().min().unwrap());
        println!(
            "{program} {what}: {ours:.1?} to the first byte, {plain:.1?} without kindling, {:.1?} more",
            ours.saturating_sub(plain)
        );
        assert!(ours < plain * 2 + Duration::from_millis(250), "{what}");
    }
}

fn plain_start(program: &str, script: &PathBuf) -> Duration {
    use std::io::Read;
    let began = Instant::now();
    let mut command = Command::new(program);
    command.arg(script).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).env_clear();
    command.envs(["PATH", "HOME"].iter().filter_map(|name| Some((name, std::env::var(name).ok()?))));
    let mut child = command.spawn().unwrap();
    let mut first = [0; 2];
    child.stderr.take().unwrap().read_exact(&mut first).unwrap();
    let took = began.elapsed();
    child.wait().unwrap();
    took
}
