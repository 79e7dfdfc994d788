//! What `/proc` says of processes. Reads only; signals nothing.

use std::fs;
use std::sync::OnceLock;

use crate::model::run::ProcessId;

/// The fields of `/proc/PID/stat` that kindling needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Its number.
    pub pid: i32,
    /// One letter: `R` running, `Z` ended and not yet waited for.
    pub state: u8,
    /// The number of its parent.
    pub parent: i32,
    /// The number of its process group.
    pub group: i32,
    /// The number of its session.
    pub session: i32,
    /// When it was started, in clock ticks since the machine was.
    pub started: u64,
}

impl Stat {
    /// Whether it has ended and only waits to be waited for.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// What tells it from a later process with the same number, within one start of the machine.
    pub(crate) fn key(&self) -> (i32, u64) {
        (self.pid, self.started)
    }

    /// Its identity; `None` where the machine does not tell its boot id.
    pub(crate) fn id(&self) -> Option<ProcessId> {
        let boot = boot_id()?.to_owned();
        Some(ProcessId { pid: self.pid, started: self.started, boot })
    }
}

/// Which start of the machine this is.
pub(crate) fn boot_id() -> Option<&'static str> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    BOOT.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(text.trim().to_owned()).filter(|id| !id.is_empty())
    })
    .as_deref()
}

/// The process with this number, if there is one.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Every process that this one may see.
pub(crate) fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Whether the process was started with `entry` (`NAME=value`) in its environment. `false` where it may not be
/// read: it belongs to somebody else.
pub(crate) fn has_variable(pid: i32, entry: &[u8]) -> bool {
    environ(pid).split(|byte| *byte == 0).any(|variable| variable == entry)
}

/// The value of a variable in the environment that the process was started with.
pub(crate) fn variable(pid: i32, name: &str) -> Option<String> {
    let prefix = format!("{name}=");
    let environ = environ(pid);
    let value = environ.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(prefix.as_bytes()))?;
    String::from_utf8(value.to_vec()).ok()
}

fn environ(pid: i32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()
}

/// The second field, the program's name, stands in parentheses and may hold anything, parentheses and spaces
/// too: the fields after it begin behind the last `)`.
fn parse(text: &[u8]) -> Option<Stat> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let pid = std::str::from_utf8(&text[..open]).ok()?.trim().parse().ok()?;
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse().ok();
    Some(Stat {
        pid,
        state: *fields.first()?.as_bytes().first()?,
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        // Field 22 of the line; the state, field 3, is the first of the rest.
        started: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_program_name_with_spaces_and_parentheses() {
        let rest = "S 41 42 43 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 10";
        for name in ["sh", "a b", "a) R 1 (b", ") ) (", ""] {
            let stat = parse(format!("42 ({name}) {rest}\n").as_bytes()).unwrap();
            assert_eq!((stat.pid, stat.state, stat.parent, stat.group, stat.session), (42, b'S', 41, 42, 43));
            assert_eq!(stat.started, 987_654, "{name}");
        }
        let bytes = [b"42 (\xff\xfe) ".as_slice(), rest.as_bytes()].concat();
        assert_eq!(parse(&bytes).unwrap().started, 987_654);
        assert!(parse(b"42 (sh) S 1").is_none() && parse(b"").is_none() && parse(b")(").is_none());
    }

    #[test]
    fn finds_itself() {
        let own = i32::try_from(std::process::id()).unwrap();
        let stat = stat(own).unwrap();
        assert!(!stat.has_ended() && stat.started > 0);
        assert!(all().iter().any(|other| other.key() == stat.key()));
        assert_eq!(stat.id().unwrap().boot, boot_id().unwrap());
        assert_eq!(variable(own, "NO_SUCH_VARIABLE_AT_ALL"), None);
    }
}
