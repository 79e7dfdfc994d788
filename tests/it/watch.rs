//! `get --watch` of the real binary: what a person stops shows up by itself.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::service::Service;

/// Longest time until a change shows; it takes a second.
const SOON: Duration = Duration::from_secs(20);

struct Watch {
    lines: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Watch {
    async fn of(service: &Service, kind: &str) -> Self {
        let mut command = Command::from(service.command(&["get", kind, "--watch", "-o", "json"]));
        let mut process = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut watch = Self { lines, _process: process };
        assert_eq!(watch.row().await["suspended"], Value::Null);
        watch
    }

    async fn row(&mut self) -> Value {
        let line = tokio::time::timeout(SOON, self.lines.next_line()).await.expect("a row soon");
        serde_json::from_str(&line.unwrap().expect("it goes on")).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_and_its_end_show_in_a_watch() {
    let mut service = Service::new("sources: [{name: s, local: {path: tasks}}]\n");
    service.task("tasks/t", "echo\n");
    let client = service.start().await;
    client.reconcile().await;
    for (kind, subject) in [("sources", "s"), ("units", "s/t")] {
        let mut watch = Watch::of(&service, kind).await;
        client.post("/api/v1/suspend", json!({"subject": subject, "reason": "a pause"})).await;
        assert_eq!(watch.row().await["suspended"]["reason"], "a pause");
        let marked = client.items("/api/v1/units?marked=true").await;
        assert_eq!(marked.len(), usize::from(kind == "units"), "{marked:?}");
        // A look that found nothing is no row.
        if kind == "sources" {
            client.post("/api/v1/diff", json!({"subject": subject})).await;
        } else {
            client.reconcile().await;
        }
        client.post("/api/v1/resume", json!({"subject": subject})).await;
        assert_eq!(watch.row().await["suspended"], Value::Null);
    }
}
