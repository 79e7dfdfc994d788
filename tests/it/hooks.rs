//! Task webhooks through the real binary: calls as any HTTP client makes them, and runs of real programs.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::service::client::Client;
use crate::service::{BOUND, Service, manifest, until};

mod answers;
mod callers;
mod saves;

/// A secret, a token, and one that is too short to be either.
const VARIABLES: [&str; 3] =
    ["HOOK_SECRET=0123456789abcdef-secret", "HOOK_TOKEN=0123456789abcdef-token", "HOOK_SHORT=short"];
const ALLOWED: &str = "allow: {env: [HOOK_SECRET, HOOK_TOKEN, HOOK_SHORT, HOOK_UNSET]}";

/// A service with one source `s` in the directory `tasks`.
fn service() -> Service {
    let text = format!("sources: [{{name: s, local: {{path: tasks}}, {ALLOWED}}}]\n");
    let service = Service::new(&text).through(&[&["env"][..], &VARIABLES].concat());
    std::fs::create_dir_all(service.root().join("tasks")).unwrap();
    service
}

/// Writes a task that answers with its input.
fn echo(service: &Service, name: &str, trigger: &str) {
    let text = manifest(name, trigger).replace("runtime: shell", "command: [cat]");
    service.write(&format!("tasks/{name}/task.yaml"), text);
}

/// Writes a shell task.
fn shell(service: &Service, name: &str, trigger: &str, script: &str) {
    service.write(&format!("tasks/{name}/task.sh"), script);
    service.write(&format!("tasks/{name}/task.yaml"), manifest(name, trigger));
}

/// An answer with its headers.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.headers.iter().filter(|(known, _)| known == name);
        lines.map(|(_, value)| value.as_str()).collect()
    }

    /// The one header of this name; empty where there is none.
    fn header(&self, name: &str) -> &str {
        let all = self.all(name);
        assert!(all.len() < 2, "{name}: {all:?}");
        all.first().copied().unwrap_or_default()
    }
}

/// A connection that stays open.
struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    async fn open(client: &Client) -> Self {
        let stream = BufReader::new(TcpStream::connect(client.address()).await.unwrap());
        Self { stream, host: client.address().to_owned() }
    }

    /// Sends a call. Without a header `host` it has that of the service.
    async fn send(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut text = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            text += &format!("Host: {}\r\n", self.host);
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        self.stream.write_all(format!("{text}\r\n").as_bytes()).await.unwrap();
        // A body that is refused unread ends the connection.
        let _ = self.stream.write_all(body).await;
    }

    /// The next answer; one to `HEAD` has no body.
    async fn answer(&mut self, is_head: bool) -> Reply {
        timeout(BOUND, self.read(is_head)).await.expect("an answer within the bound")
    }

    async fn read(&mut self, is_head: bool) -> Reply {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.unwrap();
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status line");
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line).await.unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut reply = Reply { status, headers, body: Vec::new() };
        let length = if is_head { 0 } else { reply.header("content-length").parse().unwrap_or(0) };
        reply.body.resize(length, 0);
        self.stream.read_exact(&mut reply.body).await.unwrap();
        reply
    }

    async fn call(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.send(method, target, headers, body).await;
        self.answer(method == "HEAD").await
    }
}

async fn call(client: &Client, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    Connection::open(client).await.call(method, target, headers, body).await
}

async fn get(client: &Client, target: &str) -> Reply {
    call(client, "GET", target, &[], b"").await
}

/// Waits until a path is served by this task.
async fn until_served(client: &Client, id: &str, path: &str) -> Value {
    client.unit_until(id, "is served", |unit| unit["hook"] == path).await
}

#[tokio::test]
async fn a_run_gets_the_call_and_no_secret_of_it() {
    let mut service = service();
    echo(&service, "a", "webhook: /hooks/a/b");
    let client = service.start().await;
    let unit = until_served(&client, "s/a", "/hooks/a/b").await;
    let headers = [
        ("Content-Type", "application/json"),
        ("X-Two", "1"),
        ("x-two", "2"),
        ("Authorization", "Bearer hunter2"),
        ("Cookie", "a=hunter2"),
        ("X-Hub-Signature-256", "sha256=hunter2"),
    ];
    let body = br#"{"n": 12345678901234567890, "list": [1, null]}"#;
    let reply = call(&client, "POST", "/hooks/a/b?x=1&y=a%20b&x=2&wait=true", &headers, body).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"), "{reply:?}");
    assert_eq!(reply.header("kindling-hash"), unit["deployedHash"].as_str().unwrap());
    let seen = reply.json();
    assert_eq!((&seen["method"], &seen["path"]), (&json!("POST"), &json!("/hooks/a/b")));
    assert_eq!(seen["query"], json!({"x": ["1", "2"], "y": "a b"}));
    assert_eq!(
        (&seen["headers"]["x-two"], &seen["headers"]["host"]),
        (&json!("1, 2"), &json!(client.address()))
    );
    assert_eq!(seen["body"]["list"], json!([1, null]));
    assert!(reply.text().contains("12345678901234567890") && !reply.text().contains("hunter2"), "{reply:?}");
    // It is a run like any other.
    let run = client.get(&format!("/api/v1/runs/{}", reply.header("kindling-run"))).await;
    assert_eq!((&run["trigger"], &run["triggerDetail"]), (&json!("webhook"), &json!("POST /hooks/a/b")));
    assert_eq!((&run["task"], &run["status"]), (&json!("s/a"), &json!("succeeded")));
    let form = [("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")];
    let seen = call(&client, "POST", "/hooks/a/b", &form, b"a=1&b=x+y&a=2").await.json();
    assert_eq!(seen["body"], json!({"a": ["1", "2"], "b": "x y"}));
    let seen =
        call(&client, "POST", "/hooks/a/b", &[("Content-Type", "image/png")], b"\x89PNG\xff").await.json();
    assert_eq!((&seen["body"], &seen["bodyBase64"]), (&json!(null), &json!("iVBOR/8=")));
    let seen = get(&client, "/hooks/a/b?").await.json();
    assert_eq!((&seen["method"], &seen["query"], &seen["body"]), (&json!("GET"), &json!({}), &json!(null)));
    let shown = service.attempt(&["get", "units", "-o", "wide"]).await;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("HOOK") && shown.contains("/hooks/a/b"), "{shown}");
    let runs = service.attempt(&["get", "runs", "-o", "wide"]).await;
    assert!(String::from_utf8_lossy(&runs.stdout).contains("webhook"), "{runs:?}");
}

#[tokio::test]
async fn methods_and_paths_that_are_not_served() {
    let mut service = service();
    echo(&service, "a", "webhook: /hooks/a");
    echo(&service, "b", "webhook: /hooks/b, methods: [PUT, OPTIONS]");
    let client = service.start().await;
    until_served(&client, "s/a", "/hooks/a").await;
    until_served(&client, "s/b", "/hooks/b").await;
    let head = call(&client, "HEAD", "/hooks/a", &[], b"").await;
    assert_eq!((head.status, head.header("content-type")), (200, "application/json"), "{head:?}");
    assert!(!head.header("kindling-run").is_empty());
    for (method, path, allow) in [
        ("PUT", "/hooks/a", "GET, HEAD, POST"),
        ("OPTIONS", "/hooks/a", "GET, HEAD, POST"),
        ("BREW", "/hooks/a", "GET, HEAD, POST"),
        ("GET", "/hooks/b", "PUT, OPTIONS"),
        ("HEAD", "/hooks/b", "PUT, OPTIONS"),
    ] {
        let reply = call(&client, method, path, &[], b"").await;
        assert_eq!((reply.status, reply.header("allow")), (405, allow), "{method} {path}: {reply:?}");
    }
    assert_eq!(call(&client, "OPTIONS", "/hooks/b", &[], b"").await.json()["method"], "OPTIONS");
    for path in
        ["/hooks/c", "/hooks/a/", "/hooks/a/b", "/hooks/A", "/hooks/%61", "/hooks//a", "/hooks/../hooks/a"]
    {
        assert_eq!(get(&client, path).await.status, 404, "{path}");
    }
    // What is not below it is the API's, which wants its token.
    for path in ["/hooks", "/hooks/", "/hook/a"] {
        assert_eq!(get(&client, path).await.status, 401, "{path}");
    }
    std::fs::remove_dir_all(service.root().join("tasks/a")).unwrap();
    until("its path is gone", async || (get(&client, "/hooks/a").await.status == 404).then_some(())).await;
    // Calls that were let in were counted by what became of them, and those of a unit that is gone are forgotten.
    let page = until("it is forgotten", async || {
        let page = client.call("GET", "/metrics", None).await.unwrap().body;
        (!page.contains("unit=\"a\"")).then_some(page)
    })
    .await;
    assert!(
        page.contains("kindling_hook_requests_total{source=\"s\",unit=\"b\",result=\"succeeded\"} 1\n"),
        "{page}"
    );
    assert!(
        page.contains("kindling_hook_requests_total{source=\"s\",unit=\"b\",result=\"invalid\"} 2\n"),
        "{page}"
    );
}

#[tokio::test]
async fn bodies_that_are_not_what_they_say_start_nothing() {
    let mut service = service();
    echo(&service, "a", "webhook: /hooks/a");
    let text = std::fs::read_to_string(service.configuration()).unwrap();
    std::fs::write(service.configuration(), format!("{text}limits: {{webhook_body: 64KiB}}\n")).unwrap();
    let client = service.start().await;
    until_served(&client, "s/a", "/hooks/a").await;
    let kind = [("Content-Type", "application/json")];
    let reply = call(&client, "POST", "/hooks/a", &kind, b"{\"a\": }").await;
    assert_eq!(reply.status, 400);
    let told = reply.json();
    assert_eq!(
        told["message"],
        "the body, which is JSON by its type, is not JSON: expected value at line 1 column 7"
    );
    assert_eq!(call(&client, "POST", "/hooks/a", &kind, b"\"\xff\"").await.status, 400);
    assert_eq!(get(&client, "/hooks/a?wait=no").await.status, 400);
    assert_eq!(call(&client, "POST", "/hooks/a", &[], &vec![b'x'; (64 << 10) + 1]).await.status, 413);
    let mut dripping = Connection::open(&client).await;
    dripping.send("POST", "/hooks/a", &[("Content-Length", "100")], b"").await;
    assert_eq!(call(&client, "POST", "/hooks/a", &[], &vec![b'x'; 64 << 10]).await.status, 200);
    assert_eq!(dripping.answer(false).await.status, 408);
    assert_eq!(client.items("/api/v1/runs?task=s/a").await.len(), 1);
}
