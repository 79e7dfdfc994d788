//! Opens files that a person named. Never waits for what is no file: a pipe that nobody writes to, a device.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a regular file for reading; a link to one is one.
///
/// # Errors
/// It cannot be opened, or is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    let no_file = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
    // Looked at first: opening alone moves some devices.
    if !fs::metadata(path)?.is_file() {
        return Err(no_file());
    }
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    // Another thing may stand there since.
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_file()) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_file_is_opened_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        let mut text = String::new();
        open(&at("link")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        for path in [at("pipe"), dir.path().to_owned(), "/dev/null".into()] {
            assert_eq!(
                open(&path).unwrap_err().to_string(),
                "it is not a regular file",
                "{}",
                path.display()
            );
        }
        assert_eq!(open(&at("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
