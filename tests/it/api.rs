//! The API as any program meets it: its description, who is let in, its figures, and commands that a test of one
//! module cannot show.

mod description;
mod figures;
mod manager;
mod restart;
mod schema;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::service::client::{Client, condition};
use crate::service::{Service, manifest};

/// A service with a task that runs, one that is broken and a daemon.
pub fn service() -> Service {
    let service = Service::new("sources:\n  - {name: team, local: {path: tasks}}\n");
    service.task("tasks/hello", "echo hello\n");
    service.write("tasks/broken/task.yaml", "{}\n");
    service.write("tasks/beat/task.sh", "exec sleep 600\n");
    service.write("tasks/beat/task.yaml", manifest("beat", "daemon: true"));
    service
}

/// Starts it, and waits until its daemon runs.
pub async fn settled(service: &mut Service) -> Client {
    let client = service.start().await;
    client.unit_until("team/beat", "runs", |unit| condition(unit, "Healthy").starts_with("True")).await;
    client.unit_until("team/beat", "is live", |unit| condition(unit, "Ready").starts_with("True")).await;
    client
}

/// One call with these headers and nothing else; gives back the status.
pub async fn bare(address: &str, method: &str, path: &str, headers: &str) -> u16 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = "{}";
    let text = format!(
        "{method} {path} HTTP/1.0\r\n{headers}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    // A stream of events would never end: the first line is enough.
    let mut start = [0; 12];
    tokio::time::timeout(crate::service::BOUND, stream.read_exact(&mut start)).await.unwrap().unwrap();
    std::str::from_utf8(&start[9..]).unwrap().parse().unwrap()
}

/// Every call of the description: method, path with its places filled in, and whether it needs no token.
pub fn calls(document: &Value) -> Vec<(String, String, bool)> {
    let paths = document["paths"].as_object().unwrap();
    let methods = paths.iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().iter().map(move |(method, of)| {
            let filled: Vec<&str> =
                path.split('/').map(|part| if part.starts_with('{') { "team" } else { part }).collect();
            (method.to_uppercase(), filled.join("/"), of["security"] == serde_json::json!([]))
        })
    });
    methods.collect()
}

#[tokio::test]
async fn http_2_is_not_spoken() {
    let mut service = Service::new("sources: []\n");
    let client = service.start().await;
    let mut stream = TcpStream::connect(client.address()).await.unwrap();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // `GET / http` by the static table, with a literal `:authority: localhost`.
    let head = [&[0x82, 0x86, 0x84, 0x41, 9][..], b"localhost"].concat();
    let frame = [0, 0, u8::try_from(head.len()).unwrap(), 1, 5, 0, 0, 0, 1];
    let start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    stream.write_all(&[&start[..], &settings, &frame, &head].concat()).await.unwrap();
    // `:status: 505`, in the coding of Huffman or as it is.
    let refusals: [&[u8]; 2] = [&[0x48, 0x83, 0x6c, 0x0d, 0xff], b"\x48\x03505"];
    let mut said = Vec::new();
    let refused = async {
        while !refusals.iter().any(|refusal| said.windows(refusal.len()).any(|part| part == *refusal)) {
            assert_ne!(stream.read_buf(&mut said).await.unwrap(), 0, "{said:02x?}");
        }
    };
    tokio::time::timeout(crate::service::BOUND, refused).await.expect("it says so within the bound");
}
