//! Asks a program of this machine for its version.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// A program that has not answered by then is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// The first line that `PROGRAM --version` prints.
///
/// # Errors
/// It cannot be started, fails, or does not answer within 5 s.
pub async fn version(program: &Path) -> io::Result<String> {
    let asked = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let answer = tokio::time::timeout(PATIENCE, asked).await.map_err(|_| io::ErrorKind::TimedOut)??;
    if !answer.status.success() {
        return Err(io::Error::other(format!("it ended with {}", answer.status)));
    }
    let text = String::from_utf8_lossy(&answer.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// What `ssh -V` says of itself, which it does on stderr.
///
/// # Errors
/// It cannot be started, fails, or does not answer within 5 s.
pub async fn version_of_ssh() -> io::Result<String> {
    let asked =
        Command::new("ssh").arg("-V").stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).output();
    let answer = tokio::time::timeout(PATIENCE, asked).await.map_err(|_| io::ErrorKind::TimedOut)??;
    if !answer.status.success() {
        return Err(io::Error::other(format!("it ended with {}", answer.status)));
    }
    let text = String::from_utf8_lossy(&answer.stderr);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn takes_the_first_line_of_a_program_that_works() {
        // Cargo names itself to the tests that it runs.
        let cargo = std::env::var("CARGO").unwrap();
        let version_of_cargo = version(Path::new(&cargo)).await.unwrap();
        assert!(
            version_of_cargo.starts_with("cargo ") && !version_of_cargo.contains('\n'),
            "{version_of_cargo}"
        );
        assert!(version(Path::new("/bin/false")).await.is_err());
        assert!(version(Path::new("/no/such/program")).await.is_err());
    }
}
