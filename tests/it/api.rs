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
