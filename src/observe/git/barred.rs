//! What a person is to mend in a file: a credential, or the host keys that are known. Whether such a file is another
//! one is looked up where trying again is useless otherwise; no file is opened for that, and no remote is asked.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::remote::Remote;
use super::{Place, ssh};
use crate::model::source::GitAuth;

/// Device, inode, size, and the times of the last change of its content and of it; `None` where nothing is there, or
/// nothing in it.
type Stamp = Option<(u64, u64, u64, [i64; 4])>;

/// How the files were before an attempt.
#[derive(Debug)]
pub(super) struct Barred {
    files: Vec<PathBuf>,
    stamps: Vec<Stamp>,
    next: Instant,
}

impl Barred {
    /// The files that the next attempt depends on; `None` where it depends on none. `ssh_dir` holds what ssh needs.
    pub(super) async fn before(place: &Place, ssh_dir: &Path, interval: Duration) -> Option<Self> {
        let mut files = match &place.auth {
            Some(GitAuth::TokenFile(path) | GitAuth::SshKeyFile(path)) => vec![path.clone()],
            Some(GitAuth::TokenEnv(_)) | None => Vec::new(),
        };
        if matches!(place.remote, Remote::Ssh(_)) {
            files.extend(ssh::known_hosts(ssh_dir));
        }
        if files.is_empty() {
            return None;
        }
        let stamps = stamps(&files).await?;
        Some(Self { files, stamps, next: Instant::now() + interval })
    }

    /// Waits until one of the files is another one. Cancel safe.
    pub(super) async fn changed(&mut self, interval: Duration) {
        loop {
            sleep_until(self.next).await;
            let now = stamps(&self.files).await;
            self.next = Instant::now() + interval;
            if let Some(now) = now.filter(|now| *now != self.stamps) {
                self.stamps = now;
                return;
            }
        }
    }
}

/// On a thread of its own: a file may lie on a file system that does not answer.
async fn stamps(files: &[PathBuf]) -> Option<Vec<Stamp>> {
    let files = files.to_vec();
    let look = move || files.iter().map(|file| stamp(file)).collect();
    tokio::task::spawn_blocking(look).await.ok()
}

fn stamp(path: &Path) -> Stamp {
    let meta = fs::metadata(path).ok().filter(|meta| meta.size() > 0)?;
    let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
    Some((meta.dev(), meta.ino(), meta.size(), times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_same_length_and_time_is_another_one_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "one").unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let before = stamp(&path);
        // The clock of a file system moves in steps.
        loop {
            fs::write(&path, "two").unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
            if stamp(&path) != before {
                break;
            }
            let age = modified.elapsed().unwrap_or_default();
            assert!(age < Duration::from_secs(5), "it is taken for the same file");
        }
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), modified);
    }
}
