//! How common failures of a remote are told: what failed, where, why in plain words, and what helps.

use std::net::TcpListener;

use super::*;
use crate::http_backend::{Answer, HttpRemote};

/// A failed look in one line: its reason, its sentence and its cause.
async fn said(bench: &Bench, url: &str) -> String {
    let error = fail(&mut GitSource::open(bench.options(url))).await;
    let why = error.source.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{} {}{why}", error.reason, error.message)
}

fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_place_that_is_not_there() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    let port = closed_port();
    let plain = bench.repo.root().display().to_string();
    for (url, why) in [
        (format!("http://127.0.0.1:{port}/x.git"), format!("nothing listens at 127.0.0.1:{port} (connection refused)")),
        (format!("https://127.0.0.1:{port}/x.git"), format!("nothing listens at 127.0.0.1:{port} (connection refused)")),
        (
            bench.server.url("nowhere.git"),
            "there is no such repository, or only for those who log in (HTTP status 404): correct the URL, or configure `auth`"
                .to_owned(),
        ),
        ("/nowhere/x.git".to_owned(), "there is nothing at the path".to_owned()),
        (plain, "no git repository is there: correct the URL".to_owned()),
    ] {
        assert_eq!(said(&bench, &url).await, format!("RemoteUnreachable cannot reach {url}: {why}"));
    }
}

/// Something that writes these bytes to whoever comes, and ends.
fn speaker(text: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            use std::io::Write as _;
            let _ = stream.write_all(text);
        }
    });
    port
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    let port = speaker(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let url = format!("https://127.0.0.1:{port}/x.git");
    let why =
        format!("what answers at 127.0.0.1:{port} does not speak TLS: should the URL begin with http://?");
    assert_eq!(said(&bench, &url).await, format!("RemoteUnreachable cannot reach {url}: {why}"));
}

#[tokio::test]
async fn a_server_that_refuses_or_fails() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    for (status, reason, why) in [
        (
            403,
            "AuthenticationFailed",
            "wants credentials, or does not exist (HTTP status 403); configure `auth`",
        ),
        (
            404,
            "RemoteUnreachable",
            "there is no such repository, or only for those who log in (HTTP status 404)",
        ),
        (429, "RemoteUnreachable", "it is asked too often (HTTP status 429): make `poll_interval` longer"),
        (500, "RemoteUnreachable", "the server has a trouble of its own (HTTP status 500)"),
        (
            200,
            "FetchFailed",
            "what answers there is no git server, or wants a login in a browser: correct the URL",
        ),
    ] {
        let server = HttpRemote::serve_with(bench.repo.root(), move |_| Answer::Status(status));
        let said = said(&bench, &server.url("remote.git")).await;
        assert!(said.starts_with(reason) && said.contains(&server.url("remote.git")), "{status}: {said}");
        assert!(said.contains(why), "{status}: {said}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_or_is_damaged() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    for on_post in [false, true] {
        let server = HttpRemote::serve_with(bench.repo.root(), move |request| {
            if (request.method == "POST") == on_post { Answer::Cut } else { Answer::Git }
        });
        let said = said(&bench, &server.url("remote.git")).await;
        let why =
            "the connection broke in the middle of an answer (end of file before message length reached)";
        assert!(said.starts_with("FetchFailed cannot fetch http://") && said.ends_with(why), "{said}");
    }
    // The listing is whole, the pack is not.
    let server = HttpRemote::serve_with(bench.repo.root(), |request| {
        if request.method == "POST" { Answer::Damaged } else { Answer::Git }
    });
    let said = said(&bench, &server.url("remote.git")).await;
    assert!(
        said.starts_with("FetchFailed cannot fetch http://") && said.contains("what came was damaged"),
        "{said}"
    );
}

/// A line of git's protocol.
fn line(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

#[tokio::test]
async fn an_answer_that_is_not_what_git_says() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    let id = "0123456789012345678901234567890123456789";
    let no_git = "what answers there does not speak git's protocol: correct the URL";
    let short =
        "the answer is empty or ends in the middle: the server broke it off, or no git server answers there";
    let closed = "the server says: the vault is closed";
    let service = format!("{}0000", line("# service=git-upload-pack\n"));
    let err = line("ERR the vault is closed\n");
    for (on_post, answer, why) in [
        (false, String::new(), short),
        (false, format!("{service}{err}"), closed),
        (false, err.clone(), closed),
        (false, "zzzz".to_owned(), no_git),
        (false, "00ff".to_owned(), short),
        (false, line("nonsense\n"), no_git),
        (
            false,
            format!("{service}{}0000", line("version 9\n")),
            "the server speaks `version 9` of git's protocol, which is not known here",
        ),
        (true, String::new(), short),
        (true, err.clone(), closed),
        (true, "zzzz".to_owned(), no_git),
        (true, "00ffabc".to_owned(), short),
        (true, format!("{}0000", line("nonsense\n")), no_git),
        (true, format!("{}0000", line("xyz refs/heads/main\n")), no_git),
    ] {
        let says = answer.clone();
        let server = HttpRemote::serve_with(bench.repo.root(), move |request| {
            let is_meant = (request.method == "POST") == on_post;
            if is_meant { Answer::Says(says.clone().into_bytes()) } else { Answer::Git }
        });
        let url = server.url("remote.git");
        assert_eq!(said(&bench, &url).await, format!("FetchFailed cannot fetch {url}: {why}"), "{answer:?}");
    }
    // A name that git would not take is told as any other; what is no answer to a request for files is told too.
    for (name, why) in [
        ("refs/heads/a..b", "BranchMissing PLACE has no branch `main`; it has `a..b`".to_owned()),
        ("refs/heads/main", format!("FetchFailed cannot fetch PLACE: {no_git}")),
    ] {
        let says = format!("{}0000", line(&format!("{id} {name}\n")));
        let server = HttpRemote::serve_with(bench.repo.root(), move |request| {
            if request.method == "POST" { Answer::Says(says.clone().into_bytes()) } else { Answer::Git }
        });
        let url = server.url("remote.git");
        assert_eq!(said(&bench, &url).await, why.replace("PLACE", &url), "{name}");
    }
}
