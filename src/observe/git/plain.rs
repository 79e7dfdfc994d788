//! Failures of a remote in plain words: what gix, the HTTP client and TLS say is for programmers. What is not known
//! here is passed on as they say it.

use std::error::Error;
use std::io;

/// Why there is no connection to `place`, a host with its port. `why` is the error with its causes.
pub(super) fn unreachable(error: &(dyn Error + 'static), why: &str, place: &str) -> String {
    match kind_of(error) {
        Some(io::ErrorKind::ConnectionRefused) => {
            return format!("nothing listens at {place} (connection refused)");
        }
        Some(io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) => {
            return format!("no network of this machine leads to {place}");
        }
        _ => {}
    }
    let last = why.rsplit(": ").next().unwrap_or(why);
    let has = |part: &str| why.contains(part);
    if last == "operation timed out" {
        format!("there was no connection to {place} in time")
    } else if has("dns error") || has("failed to lookup address") {
        let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
        format!(
            "the host name {host} leads nowhere ({last}): correct the URL, or look at this machine's name service"
        )
    } else if has("UnknownIssuer") {
        format!(
            "the certificate of {place} is signed by nobody that this machine trusts; install its authority's certificate"
        )
    } else if has("Expired") || has("NotValidYet") || has("expired") {
        format!("the certificate of {place} has expired, or the clock of this machine is wrong")
    } else if has("NotValidForName") || has("not valid for name") {
        format!("the certificate of {place} is for another host")
    } else if has("InvalidContentType") || has("corrupt message") {
        format!("what answers at {place} does not speak TLS: should the URL begin with http://?")
    } else if has("tls handshake eof") || has("unexpected EOF") {
        format!("{place} ends the connection before TLS begins")
    } else {
        why.to_owned()
    }
}

/// What a status of a server means for a repository.
pub(super) fn status(code: u16) -> String {
    match code {
        404 | 410 => format!(
            "there is no such repository, or only for those who log in (HTTP status {code}): correct the URL, or configure `auth`"
        ),
        429 => format!("it is asked too often (HTTP status {code}): make `poll_interval` longer"),
        500..=599 => format!("the server has a trouble of its own (HTTP status {code})"),
        _ => format!("it answers with HTTP status {code}, as no git server does: correct the URL"),
    }
}

/// What the failure of a fetch means, where it can be told from what gix says.
pub(super) fn fetch(why: &str) -> Option<String> {
    let has = |part: &str| why.contains(part);
    if has("No space left on device") || has("os error 28") || has("Disk quota exceeded") {
        return Some("the disk of the data directory is full: make room (`df -h` shows where)".to_owned());
    }
    let none = ["does not appear to be a git repository", "not a git repository", "is a valid git directory"];
    if none.into_iter().any(has) {
        return Some("no git repository is there: correct the URL".to_owned());
    }
    let damaged = ["corrupt", "but should have been", "checksum", "mismatch", "Mismatch", "decompress"];
    if damaged.into_iter().any(has) {
        let parts: Vec<&str> = why.rsplitn(3, ": ").collect();
        let detail = parts.iter().take(2).rev().copied().collect::<Vec<_>>().join(": ");
        return Some(format!("what came was damaged on its way, or at the server ({detail})"));
    }
    strange(why)
}

/// What is put before a server's own words.
const SAYS: &str = "the server says: ";

/// What a server says in place of an answer, in a line that begins with `ERR`; `answer` is how its text begins.
pub(super) fn refusal(answer: &[u8]) -> Option<String> {
    let (length, rest) = answer.split_at_checked(4)?;
    let length = usize::from_str_radix(std::str::from_utf8(length).ok()?, 16).ok()?;
    let line = rest.get(..length.checked_sub(4)?).unwrap_or(rest);
    if line.starts_with(b"# service=") {
        return refusal(rest.get(line.len()..)?.strip_prefix(b"0000")?);
    }
    let said = String::from_utf8_lossy(line.strip_prefix(b"ERR ")?);
    Some(format!("{SAYS}{}", said.trim_end()))
}

/// What gix says of an answer in which it cannot find its way.
fn strange(why: &str) -> Option<String> {
    let has = |part: &str| why.contains(part);
    if let Some(at) = why.find(SAYS) {
        return Some(why[at..].to_owned());
    }
    if has("sized 64 hexadecimal") {
        return Some("its objects have SHA-256 ids; only repositories with SHA-1 ids are read".to_owned());
    }
    if has("failed to fill whole buffer") || has("additional bytes to decode") {
        return Some(
            "the answer is empty or ends in the middle: the server broke it off, or no git server answers there"
                .to_owned(),
        );
    }
    if let Some((_, rest)) = why.split_once("The protocol version indicated by ") {
        let version = rest.split('"').nth(1).unwrap_or_default();
        return Some(format!("the server speaks `{version}` of git's protocol, which is not known here"));
    }
    let words = [
        "first four hex bytes",
        "Capabilities could not be parsed",
        "Could not decode object ID",
        "Could not decode advertised ref",
        "V2 ref line",
        "Encountered an unknown line prefix",
        "Unknown or unsupported header",
        "unexpected packet line",
    ];
    let is_strange = words.into_iter().any(has);
    is_strange.then(|| "what answers there does not speak git's protocol: correct the URL".to_owned())
}

/// The kind of the innermost error of the system.
fn kind_of(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut found = None;
    let mut next = Some(error);
    while let Some(error) = next {
        let system = error.downcast_ref::<io::Error>().filter(|error| error.raw_os_error().is_some());
        found = system.map(io::Error::kind).or(found);
        next = error.source();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_says_no_is_found_at_the_beginning_of_an_answer() {
        let said = Some("the server says: closed".to_owned());
        for answer in
            ["000eERR closed", "000fERR closed\n0000", "001e# service=git-upload-pack\n0000000fERR closed\n"]
        {
            assert_eq!(refusal(answer.as_bytes()), said, "{answer}");
        }
        for other in
            ["", "000", "0000", "0003", "zzzz", "0008ERRO", "ffffPACK", "001e# service=git-upload-pack\n0000"]
        {
            assert_eq!(refusal(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn common_faults_are_told_in_plain_words() {
        let told = |why: &str| unreachable(&io::Error::other(why.to_owned()), why, "git.example.org:443");
        for (why, part) in [
            (
                "client error (Connect): dns error: Name or service not known",
                "name git.example.org leads nowhere (Name or",
            ),
            ("invalid peer certificate: UnknownIssuer", "signed by nobody that this machine trusts"),
            ("invalid peer certificate: Expired", "has expired, or the clock"),
            ("invalid peer certificate: NotValidForName", "is for another host"),
            ("received corrupt message of type InvalidContentType", "does not speak TLS"),
            ("tls handshake eof", "ends the connection before TLS begins"),
        ] {
            assert!(told(why).contains(part), "{why}: {}", told(why));
        }
        assert_eq!(told("something else"), "something else");
        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(unreachable(&refused, "x", "h:1"), "nothing listens at h:1 (connection refused)");
        assert!(
            fetch("cannot write: No space left on device (os error 28)")
                .is_some_and(|said| said.contains("is full"))
        );
        let damaged = "Failed to write the received pack: An IO operation failed: corrupt deflate stream: Invalid input data";
        let told =
            "what came was damaged on its way, or at the server (corrupt deflate stream: Invalid input data)";
        assert_eq!(fetch(damaged).as_deref(), Some(told));
        assert_eq!(fetch("something else"), None);
    }
}
