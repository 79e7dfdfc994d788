//! git over ssh, through the `ssh` program, which gix starts.
//!
//! Nothing is asked on a terminal, no agent and no configuration of the user is looked at, and a server whose host key
//! is not known is not talked to. What ssh says goes to a file of the attempt, which is small and read once. An
//! abandoned attempt's process is ended. Never changes a file of known hosts.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gix::bstr::{BStr, BString, ByteSlice};
use gix::protocol::transport::Protocol;
use gix::protocol::transport::client::blocking_io::{Transport, ssh};
use rustix::process::{Pid, Signal, getpid, kill_process};
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::{Trouble, chain};
use super::job::Control;
use crate::config::remote::SshUrl;

/// Host keys that a person accepted for kindling, in the folder of what ssh needs.
const KNOWN_HOSTS: &str = "known_hosts";

/// Host keys that kindling brings along.
const SHIPPED: &str = "known_hosts.shipped";
const SHIPPED_KEYS: &str = include_str!("known_hosts");

/// Most that is read of what ssh said, in bytes.
const MAX_LOG_BYTES: u64 = 1 << 17;

/// How often, and how long apart, an abandoned attempt is asked for its process.
const END_TRIES: usize = 50;
const END_WAIT: Duration = Duration::from_millis(20);

/// What ssh is told, beside who asks and whom it may trust. A connection, a handshake or a server that is silent is
/// given up before the deadline of a look.
const OPTIONS: [&str; 19] = [
    "BatchMode=yes",
    "ConnectTimeout=20",
    "ConnectionAttempts=1",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=2",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "CheckHostIP=no",
    "IdentityAgent=none",
    "PreferredAuthentications=publickey",
    "ForwardAgent=no",
    "ClearAllForwardings=yes",
    "ControlMaster=no",
    "ControlPath=none",
    "PermitLocalCommand=no",
    "ProxyCommand=none",
    "RequestTTY=no",
    "EscapeChar=none",
    // The fingerprint of a refused host key is said at no other level.
    "LogLevel=DEBUG1",
];

/// The connections of one attempt.
pub(super) struct Session {
    command: OsString,
    log: PathBuf,
    url: SshUrl,
    known_hosts: PathBuf,
    has_key: bool,
    _running: DropGuard,
}

impl Session {
    /// Prepares the connections of attempt `number`. `dir` holds what ssh needs, `key` is the private key.
    pub(super) fn begin(
        url: &SshUrl,
        key: Option<&Path>,
        dir: &Path,
        number: u64,
        runtime: &Handle,
        control: &Control,
    ) -> Result<Self, Trouble> {
        for file in known_hosts(dir) {
            // ssh would wait for a pipe until the deadline.
            if file.metadata().is_ok_and(|meta| !meta.is_file()) {
                let why = format!("the file {} is not a regular file", file.display());
                return Err(Trouble::CredentialMissing(why));
            }
        }
        prepare(dir).map_err(|error| {
            Trouble::Fetch(format!("cannot write what ssh needs into {}: {}", dir.display(), chain(&error)))
        })?;
        let log = dir.join(format!("attempt-{number}.log"));
        let known_hosts = dir.join(KNOWN_HOSTS);
        let command = command(&log, &[&known_hosts, &dir.join(SHIPPED)], key)?;
        let running = CancellationToken::new();
        let (over, abandoned, noted) = (running.clone(), control.abandoned(), log.clone());
        runtime.spawn(async move {
            tokio::select! {
                biased;
                () = over.cancelled() => {}
                () = abandoned.cancelled() => end(&noted).await,
            }
        });
        let has_key = key.is_some();
        Ok(Self { command, log, url: url.clone(), known_hosts, has_key, _running: running.drop_guard() })
    }

    /// A connection to the repository at `url`; the process starts when it is first used.
    pub(super) fn connect(&self, url: gix::Url) -> Result<Box<dyn Transport + Send>, Trouble> {
        let options = ssh::connect::Options {
            command: Some(self.command.clone()),
            disallow_shell: false,
            kind: Some(ssh::ProgramKind::Ssh),
        };
        let connection = ssh::connect(url, Protocol::V2, options, false);
        Ok(Box::new(connection.map_err(|error| Trouble::Unreachable(chain(&error)))?))
    }

    /// What went wrong, out of what ssh said. `why` is what gix made of it.
    pub(super) fn explain(&self, why: String) -> Trouble {
        let said = read_log(&self.log).unwrap_or_default();
        let has = |text: &str| said.contains(text);
        if has("REMOTE HOST IDENTIFICATION HAS CHANGED") || has("REVOKED HOST KEY DETECTED") {
            return Trouble::HostKeyChanged(self.host_key(&said));
        }
        if has("host key is known for") {
            return Trouble::HostKeyUnknown(self.host_key(&said));
        }
        let own = || said.lines().skip(1).filter(|line| !line.starts_with("debug1: "));
        let line_with = |texts: &[&str]| {
            own().find(|line| texts.iter().any(|text| line.contains(text))).map(|line| line.trim().to_owned())
        };
        if let Some(how) = line_with(&["Permission denied (", "Too many authentication failures"]) {
            return Trouble::Refused { how, asked: self.has_key };
        }
        if line_with(&["exec: ssh: not found", "ssh: command not found"]).is_some() {
            return Trouble::Unreachable("the program `ssh` is not installed".to_owned());
        }
        if line_with(&["timed out", "Timeout, server"]).is_some() {
            return Trouble::TimedOut;
        }
        if let Some(line) = line_with(&["resolve hostname", "connect to host", "Connection closed by"]) {
            return Trouble::Unreachable(line);
        }
        let words: Vec<&str> = own().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = words[words.len().saturating_sub(3)..].join("; ");
        Trouble::Fetch(if last.is_empty() { why } else { format!("{last} ({why})") })
    }

    fn host_key(&self, said: &str) -> Box<HostKey> {
        let shown = said.lines().find_map(|line| line.strip_prefix("debug1: Server host key: "));
        let (kind, fingerprint) = shown.and_then(|shown| shown.split_once(' ')).unwrap_or_default();
        let mut lines = said.lines().rev().filter(|line| line.starts_with("Offending "));
        let offending = lines.find_map(|line| line.split_once(" key in ")).map(|(_, place)| place.trim());
        Box::new(HostKey {
            kind: kind.to_owned(),
            fingerprint: fingerprint.trim().to_owned(),
            host: self.url.host.clone(),
            port: self.url.port,
            known_hosts: self.known_hosts.clone(),
            offending: offending.map(|place| place.rsplit_once(':').map_or(place, |(file, _)| file).into()),
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It is there only if the process was started.
        let _ = fs::remove_file(&self.log);
    }
}

/// A host key that a server showed.
#[derive(Debug)]
pub(super) struct HostKey {
    /// Such as `ssh-ed25519`; empty where ssh did not say.
    kind: String,
    /// Such as `SHA256:...`.
    fingerprint: String,
    host: String,
    port: Option<u16>,
    known_hosts: PathBuf,
    /// The file that knows another key.
    offending: Option<PathBuf>,
}

impl HostKey {
    /// The sentence for a key that nobody knows.
    pub(super) fn unknown(&self, remote: &dyn fmt::Display) -> String {
        format!(
            "the host key of {remote} is not known: {} {}; if the host's owner names the same one, accept it with `{}`, \
             then `kindling reconcile`",
            self.kind,
            self.fingerprint,
            self.accept()
        )
    }

    /// The sentence for a key that is not the known one.
    pub(super) fn changed(&self, remote: &dyn fmt::Display) -> String {
        let name = match self.port {
            Some(port) => format!("[{}]:{port}", self.host),
            None => self.host.clone(),
        };
        let file = self.offending.as_ref().unwrap_or(&self.known_hosts);
        format!(
            "the host key of {remote} has changed to {} {}: somebody may stand in between; if the host's owner confirms \
             it, remove the old one with `ssh-keygen -R '{name}' -f '{}'`, accept the new one with `{}`, then `kindling \
             reconcile`",
            self.kind,
            self.fingerprint,
            file.display(),
            self.accept()
        )
    }

    fn accept(&self) -> String {
        let port = self.port.map(|port| format!("-p {port} ")).unwrap_or_default();
        let kind = match self.kind.as_str() {
            "ssh-ed25519" => "-t ed25519 ",
            "ssh-rsa" | "rsa-sha2-256" | "rsa-sha2-512" => "-t rsa ",
            kind if kind.starts_with("ecdsa-") => "-t ecdsa ",
            _ => "",
        };
        format!("ssh-keyscan {port}{kind}{} >> '{}'", self.host, self.known_hosts.display())
    }
}

/// The files of known hosts that a person may change, where they are known: ssh reads them besides those shipped.
pub(super) fn known_hosts(dir: &Path) -> Vec<PathBuf> {
    let own = std::env::home_dir().map(|home| home.join(".ssh/known_hosts"));
    let all = [dir.join(KNOWN_HOSTS), "/etc/ssh/ssh_known_hosts".into(), "/etc/ssh/ssh_known_hosts2".into()];
    own.into_iter().chain(all).collect()
}

/// Makes the folder and the files of known hosts that are not there.
fn prepare(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    File::options().append(true).create(true).open(dir.join(KNOWN_HOSTS))?;
    let shipped = dir.join(SHIPPED);
    if fs::read(&shipped).is_ok_and(|there| there == SHIPPED_KEYS.as_bytes()) {
        return Ok(());
    }
    fs::write(shipped, SHIPPED_KEYS)
}

/// What a shell is to run: it notes its process, which becomes ssh, and bounds what ssh writes. gix adds the arguments.
fn command(log: &Path, known_hosts: &[&Path], key: Option<&Path>) -> Result<OsString, Trouble> {
    let mut options: Vec<BString> = OPTIONS.iter().map(|option| BString::from(*option)).collect();
    let mut files = BString::from("UserKnownHostsFile=~/.ssh/known_hosts");
    for file in known_hosts {
        files.extend_from_slice(b" ");
        files.extend_from_slice(&quoted(file)?);
    }
    options.push(files);
    if let Some(key) = key {
        options.push("IdentitiesOnly=yes".into());
        options.push([b"IdentityFile=", &quoted(key)?[..]].concat().into());
    }
    let log = gix::quote::single(BStr::new(log.as_os_str().as_bytes()));
    let mut script = format!("echo $$ >{log} && ulimit -f 256 && exec ssh -F none").into_bytes();
    for option in options {
        script.extend_from_slice(b" -o ");
        script.extend_from_slice(&gix::quote::single(option.as_bstr()));
    }
    script.extend_from_slice(format!(" 2>>{log}").as_bytes());
    Ok(std::ffi::OsStr::from_bytes(&script).to_owned())
}

/// A path as a value of an option of ssh, which reads quotes, `%` and `${` in it.
fn quoted(path: &Path) -> Result<Vec<u8>, Trouble> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.iter().any(|byte| matches!(byte, b'"' | b'$' | b'\\') || byte.is_ascii_control()) {
        let why = format!("ssh cannot be given the path {}: it has a quote, a `$` or a `\\`", path.display());
        return Err(Trouble::Fetch(why));
    }
    Ok([b"\"", &bytes.replace("%", "%%")[..], b"\""].concat())
}

fn read_log(log: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(log)?.take(MAX_LOG_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Ends the process that an abandoned attempt noted, which may still be starting.
async fn end(log: &Path) {
    for _ in 0..END_TRIES {
        let noted = read_log(log).ok().and_then(|text| text.lines().next()?.trim().parse().ok());
        if let Some(pid) = noted.and_then(Pid::from_raw) {
            // Only a child of ours: its number is its own until the thread that hangs has seen its end.
            if parent(pid) == Some(getpid()) {
                let _ = kill_process(pid, Signal::KILL);
            }
            break;
        }
        tokio::time::sleep(END_WAIT).await;
    }
}

fn parent(pid: Pid) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    Pid::from_raw(line.trim().parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: &str, port: Option<u16>) -> HostKey {
        HostKey {
            kind: kind.into(),
            fingerprint: "SHA256:abc".into(),
            host: "example.org".into(),
            port,
            known_hosts: "/data/ssh/known_hosts".into(),
            offending: None,
        }
    }

    #[test]
    fn an_unknown_key_comes_with_the_command_that_accepts_it() {
        let said = key("ssh-ed25519", Some(2222)).unknown(&"ssh://example.org/x");
        assert!(said.contains("is not known: ssh-ed25519 SHA256:abc;"), "{said}");
        let command = "`ssh-keyscan -p 2222 -t ed25519 example.org >> '/data/ssh/known_hosts'`";
        assert!(said.contains(command), "{said}");
        let said = key("ecdsa-sha2-nistp256", None).changed(&"example.org:x");
        assert!(said.contains("`ssh-keygen -R 'example.org' -f '/data/ssh/known_hosts'`"), "{said}");
        assert!(said.contains("`ssh-keyscan -t ecdsa example.org >> "), "{said}");
    }

    #[test]
    fn paths_cannot_leave_their_quotes() {
        let log = Path::new("/data/it's/attempt-1.log");
        let known = Path::new("/data/100% sure/known_hosts");
        let script = command(log, &[known], Some(Path::new("/keys/id"))).unwrap().into_string().unwrap();
        assert!(script.starts_with(r"echo $$ >'/data/it'\''s/attempt-1.log' && "), "{script}");
        assert!(
            script.contains(r#"-o 'UserKnownHostsFile=~/.ssh/known_hosts "/data/100%% sure/known_hosts"'"#)
        );
        assert!(script.contains(r#"-o 'IdentitiesOnly=yes' -o 'IdentityFile="/keys/id"'"#), "{script}");
        for bad in ["/a\"b", "/a$b", "/a\\b", "/a\nb"] {
            assert!(quoted(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
