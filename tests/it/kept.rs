//! What tasks keep between their runs, on the real binary: over kills, over versions, within limits, many at once.

use serde_json::{Value, json};

use crate::service::client::Client;
use crate::service::{Service, until};

const CONFIG: &str = "sources:\n  - name: s\n    local: {path: src}\n";

/// Python is there; without it these tests say that they are passed over.
fn has_python() -> bool {
    let found =
        std::process::Command::new("python3").arg("--version").output().is_ok_and(|out| out.status.success());
    if !found {
        assert!(std::env::var_os("KINDLING_REQUIRE_TOOLS").is_none(), "python3 is not installed");
        println!("passed over: python3 is not installed");
    }
    found
}

fn task(service: &Service, name: &str, script: &str) {
    let manifest = format!(
        "apiVersion: kindling/v1\nkind: Task\nname: {name}\nruntime: python\ntrigger: {{manual: true}}\n"
    );
    service.write(&format!("src/{name}/task.py"), script);
    service.write(&format!("src/{name}/task.yaml"), manifest);
}

async fn begin(client: &Client, task: &str, input: &Value) -> String {
    let run = client.post("/api/v1/runs", json!({ "task": task, "input": input })).await;
    run["id"].as_str().unwrap().to_owned()
}

async fn end(client: &Client, run: &str) -> Value {
    client.get(&format!("/api/v1/runs/{run}/wait")).await
}

async fn output(client: &Client, task: &str, input: &Value) -> Value {
    let run = end(client, &begin(client, task, input).await).await;
    assert_eq!(run["status"], "succeeded", "{run}");
    run["output"].clone()
}

#[tokio::test]
async fn what_was_answered_survives_a_kill_and_every_version() {
    if !has_python() {
        return;
    }
    let mut service = Service::new(CONFIG);
    let said = service.root().join("said");
    let counting = format!(
        "def main(kv, input):\n  if input == 'get': return kv.get('n')\n  n = kv.get('n') or 0\n  while True:\n    n += 1\n    \
         kv.set('n', n)\n    open({said:?}, 'w').write(str(n) + '.')\n"
    );
    task(&service, "a", &counting);
    let mut client = service.start().await;
    let mut last = 0;
    for _ in 0..3 {
        begin(&client, "s/a", &Value::Null).await;
        let read = || -> u64 {
            let text = std::fs::read_to_string(&said).unwrap_or_default();
            text.strip_suffix('.').and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        until("it counted on", async || (read() > last + 20).then_some(())).await;
        service.kill();
        client = service.start().await;
        // The file may be a count behind, and was perhaps being written.
        let (heard, kept) = (read(), output(&client, "s/a", &json!("get")).await.as_u64().unwrap());
        assert!(kept >= heard.max(last + 20), "{kept} is kept, {heard} was answered");
        last = kept;
    }
    // Another version of the task has the same values, and so has one that is rolled back.
    let before = client.unit("s/a").await["deployedHash"].clone();
    task(&service, "a", "def main(kv): return ['new', kv.get('n')]\n");
    client.unit_until("s/a", "is new", |unit| unit["deployedHash"] != before).await;
    assert_eq!(output(&client, "s/a", &Value::Null).await, json!(["new", last]));
    client.post("/api/v1/rollback", json!({ "unit": "s/a", "to": before })).await;
    assert_eq!(output(&client, "s/a", &json!("get")).await, json!(last));
    // One that was gone for a while too.
    std::fs::remove_dir_all(service.root().join("src/a")).unwrap();
    client.post("/api/v1/reconcile", json!({ "allowRemovals": true })).await;
    assert_eq!(client.unit("s/a").await, Value::Null);
    task(&service, "a", "def main(kv): return kv.get('n')\n");
    client.reconcile().await;
    assert_eq!(output(&client, "s/a", &Value::Null).await, json!(last));
}

#[tokio::test]
async fn runs_of_one_task_share_what_other_tasks_never_see() {
    if !has_python() {
        return;
    }
    let mut service = Service::new(CONFIG);
    let script = "import time\ndef main(kv, input):\n  mine, other = input\n  kv.set('at/' + mine, 'here')\n  \
                  while kv.get('at/' + other) != 'here': time.sleep(0.005)\n  return kv.list('at/')\n";
    task(&service, "pair", script);
    task(&service, "other", "def main(kv): return kv.list()\n");
    let client = service.start().await;
    let one = begin(&client, "s/pair", &json!(["a", "b"])).await;
    let two = begin(&client, "s/pair", &json!(["b", "a"])).await;
    for run in [one, two] {
        assert_eq!(end(&client, &run).await["output"], json!(["at/a", "at/b"]));
    }
    assert_eq!(output(&client, "s/other", &Value::Null).await, json!([]));
}

#[tokio::test]
async fn limits_hold_with_a_message_that_names_their_key_and_follow_the_configuration() {
    if !has_python() {
        return;
    }
    let limited = |limits: &str| format!("{CONFIG}limits: {{{limits}}}\n");
    let mut service = Service::new(&limited("kv_value: 100, kv: 250, kv_keys: 3"));
    let script = "def main(kv, input):\n  said = []\n  for key, size in input:\n    try:\n      kv.set(key, 'x' * size)\n    \
                  except RuntimeError as error:\n      said.append(str(error))\n  return [said, kv.list()]\n";
    task(&service, "a", script);
    let client = service.start().await;
    let asked = json!([["a", 98], ["b", 99], ["b", 98], ["c", 60], ["c", 1], ["d", 1], ["e", 1]]);
    assert_eq!(
        output(&client, "s/a", &asked).await,
        json!([
            [
                "kv: the value of `b` has 101 bytes as JSON, more than the 100 allowed (`limits.kv_value`)",
                "kv: with `c` the task would keep 265 bytes, more than the 250 allowed (`limits.kv`)",
                "kv: with `d` the task would have more than the 3 keys allowed (`limits.kv_keys`)",
                "kv: with `e` the task would have more than the 3 keys allowed (`limits.kv_keys`)",
            ],
            ["a", "b", "c"]
        ])
    );
    service.configure(&limited("kv_keys: 4"));
    until("the new limits hold", async || {
        let said = output(&client, "s/a", &json!([["d", 300], ["e", 1]])).await;
        (said[0].as_array().unwrap().len() == 1 && said[1] == json!(["a", "b", "c", "d"])).then_some(())
    })
    .await;
}
