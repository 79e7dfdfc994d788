//! The names in a directory, as the system gives them.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

use super::ignore;

/// Room for the entries of most directories in one system call.
const BUFFER_BYTES: usize = 32 * 1024;

/// The names in one directory, in byte order; reused from one to the next.
#[derive(Default)]
pub(super) struct Names {
    buffer: Vec<u8>,
    text: Vec<u8>,
    entries: Vec<Name>,
    /// Whether there is a `.gitignore` among them.
    pub has_ignore_file: bool,
}

struct Name {
    start: usize,
    end: usize,
    kind: FileType,
}

impl Names {
    /// Reads the names in `dir`, but for `.git`.
    pub(super) fn read(&mut self, dir: &OwnedFd) -> Result<(), Errno> {
        self.text.clear();
        self.entries.clear();
        self.has_ignore_file = false;
        self.buffer.clear();
        self.buffer.reserve(BUFFER_BYTES);
        let room: &mut [MaybeUninit<u8>] = self.buffer.spare_capacity_mut();
        let mut entries = RawDir::new(dir, room);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b".." | b".git") {
                continue;
            }
            self.has_ignore_file |= name == ignore::NAME;
            let start = self.text.len();
            self.text.extend_from_slice(name);
            self.entries.push(Name { start, end: self.text.len(), kind: entry.file_type() });
        }
        let text = &self.text;
        self.entries.sort_unstable_by(|a, b| text[a.start..a.end].cmp(&text[b.start..b.end]));
        Ok(())
    }
    /// The names, with what the directory says of their kinds.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], FileType)> {
        self.entries.iter().map(|name| (&self.text[name.start..name.end], name.kind))
    }
}

/// A name for people: unprintable characters and bytes are escaped.
pub(super) fn printable(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        text.extend(chunk.valid().chars().flat_map(char::escape_debug));
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_printable() {
        assert_eq!(printable(b"a\nb\xff\xc3\xa9"), "a\\nb\\xff\u{e9}");
    }
}
