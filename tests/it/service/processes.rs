//! Processes of this machine as /proc shows them, told apart by their environment.

use std::collections::BTreeMap;

use rustix::process::{Pid, Signal, kill_process};

/// A process that is alive.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// The environment that its program was started with.
    pub environment: BTreeMap<String, String>,
}

/// All processes whose environment has this variable with this value. Remains of processes have no environment.
pub fn having(name: &str, value: &str) -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let all = pids.filter_map(|pid| Some(Process { pid, environment: environment(pid)? }));
    all.filter(|process| process.environment.get(name).is_some_and(|found| found == value)).collect()
}

fn environment(pid: i32) -> Option<BTreeMap<String, String>> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let variables = bytes.split(|byte| *byte == 0).filter_map(|variable| {
        let text = String::from_utf8_lossy(variable).into_owned();
        text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
    });
    Some(variables.collect())
}

/// Kills all processes whose environment has this variable with this value.
pub fn end_all(name: &str, value: &str) {
    for pid in having(name, value).iter().filter_map(|process| Pid::from_raw(process.pid)) {
        // One that is gone by now is what was wanted.
        let _ = kill_process(pid, Signal::KILL);
    }
}
