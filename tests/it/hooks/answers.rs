//! What a run's end is answered with.

use super::*;

#[tokio::test]
async fn the_output_is_the_answer() {
    let mut service = service();
    let cases = [
        ("text", "printf 'a\\nb\\n'", "text/plain; charset=utf-8", "a\nb"),
        ("json", "printf '{\"a\": 1.50}'", "application/json", "{\"a\": 1.50}"),
        ("quoted", "printf '\"a\\\\tb\"'", "text/plain; charset=utf-8", "a\tb"),
        ("nothing", "true", "application/json", "null"),
        ("number", "echo 5", "application/json", "5"),
    ];
    for (name, script, ..) in &cases {
        shell(&service, name, &format!("webhook: /hooks/{name}"), script);
    }
    let client = service.start().await;
    for (name, _, kind, body) in &cases {
        let path = format!("/hooks/{name}");
        until_served(&client, &format!("s/{name}"), &path).await;
        let reply = get(&client, &path).await;
        assert_eq!((reply.status, reply.header("content-type"), reply.text()), (200, *kind, *body), "{name}");
    }
}

/// A task whose script has `main`.
fn scripted(service: &Service, name: &str, runtime: &str, file: &str, script: &str) {
    let text = manifest(name, &format!("webhook: /hooks/{name}"));
    let text = text.replace("runtime: shell", &format!("runtime: {runtime}"));
    service.write(&format!("tasks/{name}/{file}"), script);
    service.write(&format!("tasks/{name}/task.yaml"), text);
}

#[tokio::test]
async fn a_script_sets_the_answer_and_never_the_connection() {
    let mut service = service();
    let python = "def main(input, output):\n    answer = input['body']\n    output.response(**answer)\n    return 'unseen'\n";
    scripted(&service, "py", "python", "task.py", python);
    let node = "export default ({ input, output }) => { output.response(input.body); return 'unseen'; };";
    scripted(&service, "js", "node", "task.mjs", node);
    let ruby = "def main(input:, output:)\n  output.response(input['body'])\n  'unseen'\nend\n";
    scripted(&service, "rb", "ruby", "task.rb", ruby);
    let client = service.start().await;
    for name in ["py", "js", "rb"] {
        let path = format!("/hooks/{name}");
        until_served(&client, &format!("s/{name}"), &path).await;
        let kind = [("Content-Type", "application/json")];
        let set =
            async |answer: Value| call(&client, "POST", &path, &kind, answer.to_string().as_bytes()).await;
        let reply = set(
            json!({"status": 201, "headers": {"X-A": "b", "set-cookie": ["c=1", "d=2"]}, "body": {"e": 1}}),
        )
        .await;
        assert_eq!(
            (reply.status, reply.header("content-type"), reply.text()),
            (201, "application/json", "{\"e\":1}"),
            "{name}"
        );
        assert_eq!((reply.header("x-a"), reply.all("set-cookie")), ("b", vec!["c=1", "d=2"]));
        let html = set(json!({"headers": {"Content-Type": "text/html"}, "body": "<p>ä"})).await;
        assert_eq!(
            (html.status, html.header("content-type"), html.text()),
            (200, "text/html", "<p>ä"),
            "{name}"
        );
        for status in [204, 304, 404, 599] {
            let reply = set(json!({"status": status})).await;
            assert_eq!((reply.status, reply.text()), (status, ""), "{name}: {reply:?}");
        }
        // What a connection or somebody else's answer could be made of is the script's error.
        for (answer, why) in [
            (json!({"status": 101}), "status is 101, not a number from 200 to 599"),
            (
                json!({"headers": {"Transfer-Encoding": "chunked"}}),
                "the header Transfer-Encoding is not for scripts to set",
            ),
            (
                json!({"headers": {"content-length": "1"}}),
                "the header content-length is not for scripts to set",
            ),
            (json!({"headers": {"Kindling-Run": "x"}}), "the header Kindling-Run is not for scripts to set"),
            (json!({"headers": {"a b": "c"}}), "is not the name of a header"),
            (
                json!({"headers": {"a": "b\r\nSet-Cookie: c"}}),
                "the header a has a character that no header may have",
            ),
        ] {
            let reply = set(answer).await;
            assert_eq!((reply.status, reply.all("set-cookie")), (500, vec![]), "{name}: {reply:?}");
            let run = client.get(&format!("/api/v1/runs/{}", reply.header("kindling-run"))).await;
            assert!(run["error"].as_str().unwrap().contains(why), "{name}: {run}");
        }
    }
}

#[tokio::test]
async fn a_run_that_came_to_nothing_is_told_without_its_reasons() {
    let mut service = service();
    shell(&service, "bad", "webhook: /hooks/bad", "echo hunter2 >&2; exit 3\n");
    shell(&service, "slow", "webhook: /hooks/slow", "sleep 600\n");
    service.write("tasks/late/task.sh", "sleep 600\n");
    service.write("tasks/late/task.yaml", manifest("late", "webhook: /hooks/late") + "timeout: 300ms\n");
    service.write("tasks/one/task.sh", "sleep 600\n");
    let forbid = "concurrency: {overlap: forbid}\n";
    service.write("tasks/one/task.yaml", manifest("one", "webhook: /hooks/one") + forbid);
    let again = "retries: {limit: 2, backoff: 10ms}\n";
    service.write("tasks/again/task.sh", "echo x >> runs; test $(wc -l < runs) -eq 3 && printf done\n");
    service.write("tasks/again/task.yaml", manifest("again", "webhook: /hooks/again") + again);
    let client = service.start().await;
    for name in ["bad", "slow", "late", "one", "again"] {
        until_served(&client, &format!("s/{name}"), &format!("/hooks/{name}")).await;
    }
    let told = |reply: &Reply| {
        let json = reply.json();
        assert_eq!(json["run"].as_str().unwrap(), reply.header("kindling-run"));
        assert!(!reply.text().contains("hunter2") && !reply.header("kindling-hash").is_empty(), "{reply:?}");
        let run = json["run"].as_str().unwrap();
        format!(
            "{} {} {}",
            reply.status,
            json["code"].as_str().unwrap(),
            json["message"].as_str().unwrap().replace(run, "ID")
        )
    };
    assert_eq!(told(&get(&client, "/hooks/bad").await), "500 Failed run ID failed");
    assert_eq!(told(&get(&client, "/hooks/late").await), "504 TimedOut run ID ran out of time");
    // With more attempts the last one answers.
    let reply = get(&client, "/hooks/again").await;
    assert_eq!((reply.status, reply.text()), (200, "done"));
    let run = client.get(&format!("/api/v1/runs/{}", reply.header("kindling-run"))).await;
    assert_eq!(run["attempt"], 3);
    let running = async |task: &str| {
        until("it runs", async || {
            let runs = client.items(&format!("/api/v1/runs?task=s/{task}&status=running")).await;
            runs.into_iter().next().map(|run| run["id"].as_str().unwrap().to_owned())
        })
        .await
    };
    let mut waiting = Connection::open(&client).await;
    waiting.send("GET", "/hooks/one", &[], b"").await;
    let first = running("one").await;
    let skipped = told(&get(&client, "/hooks/one").await);
    assert_eq!(skipped, "409 Conflict run ID was skipped: another run of the task is not over");
    client.post(&format!("/api/v1/runs/{first}/cancel"), json!({})).await;
    assert_eq!(told(&waiting.answer(false).await), "503 Cancelled run ID was cancelled");
    // The end of the service is told to whoever waits.
    let mut waiting = Connection::open(&client).await;
    waiting.send("GET", "/hooks/slow", &[], b"").await;
    running("slow").await;
    let (status, reply) = tokio::join!(service.terminate(), waiting.answer(false));
    assert_eq!(told(&reply), "503 Interrupted run ID was interrupted: kindling ended");
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_run_goes_on_whether_anybody_waits_or_not() {
    let mut service = service();
    shell(
        &service,
        "a",
        "webhook: /hooks/a",
        "while [ ! -e \"$HOME/go\" ]; do sleep 0.02; done; printf over\n",
    );
    let client = service.start().await;
    until_served(&client, "s/a", "/hooks/a").await;
    let reply = call(&client, "POST", "/hooks/a?wait=false&x=1", &[], b"").await;
    let run = reply.json()["run"].as_str().unwrap().to_owned();
    assert_eq!((reply.status, reply.header("kindling-run")), (202, run.as_str()), "{reply:?}");
    let mut gone = Connection::open(&client).await;
    gone.send("GET", "/hooks/a", &[], b"").await;
    until("both run", async || {
        (client.items("/api/v1/runs?task=s/a&status=running").await.len() == 2).then_some(())
    })
    .await;
    drop(gone);
    service.write("home/go", "");
    until("both are over", async || {
        let runs = client.items("/api/v1/runs?task=s/a&status=succeeded").await;
        (runs.len() == 2).then_some(())
    })
    .await;
    let over = client.get(&format!("/api/v1/runs/{run}")).await;
    assert_eq!(over["output"], "over");
}
