//! Tasks of dicode through the real binary: what its users expect and what the original gets wrong.

use std::process::Command;

use serde_json::{Value, json};

use crate::service::Service;
use crate::service::client::{Client, condition};

const CONFIGURATION: &str = "sources:\n- {name: dir, local: {path: ./src}, allow: {env: [PATH]}}\n";

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
    if !found {
        assert!(std::env::var_os("KINDLING_REQUIRE_TOOLS").is_none(), "{program} is not installed");
        println!("passed over: {program} is not installed");
    }
    found
}

async fn output(client: &Client, task: &str) -> Value {
    let run = client.run(task).await;
    assert_eq!(run["status"], "succeeded", "{run:#}");
    run["output"].clone()
}

async fn shown(service: &Service, arguments: &[&str], code: i32) -> String {
    let output = service.attempt(arguments).await;
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_script_and_its_helper_are_the_unit_and_run_confined() {
    if !has("deno") {
        return;
    }
    let mut service = Service::new(CONFIGURATION);
    service.write(
        "src/hello/task.yaml",
        "apiVersion: dicode/v1\nkind: Task\nname: Hello\nruntime: js\ntrigger: {manual: true}\n\
         params: {who: world, dir: '${TASK_DIR}'}\npermissions: {env: ['AT=${DATADIR}', 'SAME=${USER}'], net: []}\n",
    );
    service.write("src/hello/lib.ts", "export const word: string = 'hello';\n");
    let script = "import { word } from './lib.ts';\n\
                  const refused = (what: () => unknown) => { try { what(); return false; } catch { return true; } };\n\
                  export default ({ params }: any) => [`${word} ${params.who}`, params.dir === Deno.cwd(),\n\
                  Deno.env.get('AT'), Deno.env.get('SAME'), refused(() => Deno.readTextFileSync('/etc/passwd'))];\n";
    service.write("src/hello/task.ts", script);
    let client = service.start().await;
    client.unit_until("dir/hello", "is live", |unit| unit["deployedHash"].is_string()).await;
    let data = service.data_dir().display().to_string();
    assert_eq!(output(&client, "dir/hello").await, json!(["hello world", true, data, "${USER}", true]));
    // The original looks at no helper, and at no script in a set.
    service.write("src/hello/lib.ts", "export const word: string = 'goodbye';\n");
    client.reconcile().await;
    assert_eq!(output(&client, "dir/hello").await[0], "goodbye world");
}

#[tokio::test]
async fn a_python_task_sees_nothing_of_the_service() {
    if !has("python3") {
        return;
    }
    let mut service = Service::new(CONFIGURATION).through(&["env", "MASTER_KEY=hunter2hunter2"]);
    service.write(
        "src/py/task.yaml",
        "apiVersion: dicode/v1\nname: py\nruntime: python\ntrigger: {manual: true}\n\
         params:\n- {name: count, type: number, default: '3'}\n- {name: must, required: true}\n",
    );
    service
        .write("src/py/task.py", "import os\ndef main(params):\n    return [sorted(os.environ), params]\n");
    let client = service.start().await;
    client.unit_until("dir/py", "is live", |unit| unit["deployedHash"].is_string()).await;
    // Required and typed parameters are held to, which the original does not do.
    for params in [json!({}), json!({"must": "x", "count": "many"}), json!({"must": "x", "other": "1"})] {
        let body = json!({"task": "dir/py", "params": params});
        let answer = client.call("POST", "/api/v1/runs", Some(&body)).await.unwrap();
        assert_eq!(answer.status, 422, "{params}");
    }
    let run = client.post("/api/v1/runs", json!({"task": "dir/py", "params": {"must": "x"}})).await;
    let run = client.get(&format!("/api/v1/runs/{}/wait", run["id"].as_str().unwrap())).await;
    assert_eq!(run["output"][1], json!({"count": 3, "must": "x"}), "{run:#}");
    let names = run["output"][0].as_array().unwrap();
    assert!(!names.contains(&json!("MASTER_KEY")) && names.contains(&json!("PARAM_COUNT")), "{run:#}");
}

#[tokio::test]
async fn what_has_no_effect_is_told_everywhere_and_stops_nothing() {
    let mut service = Service::new(CONFIGURATION);
    let manifest = "apiVersion: dicode/v1\nname: a\nruntime: shell\ntrigger: {manual: true}\nnotify: {on_failure: true}\nretries: 3\n";
    service.write("src/a/task.yaml", manifest);
    service.write("src/a/task.sh", "printf ok\n");
    service.task("src/b", "printf ok\n");
    let client = service.start().await;
    let unit = client.unit_until("dir/a", "is live", |unit| unit["deployedHash"].is_string()).await;
    client.post("/api/v1/wait", json!({})).await;
    assert_eq!(output(&client, "dir/a").await, "ok");
    assert!(condition(&unit, "Ready").starts_with("True"), "{unit:#}");
    let warning = &unit["warnings"][0];
    assert_eq!(
        *warning,
        json!({"reason": "IgnoredField", "message": "`notify` has no effect: kindling does not have it",
               "file": "a/task.yaml", "line": 5, "column": 1})
    );
    assert_eq!(client.unit("dir/b").await["warnings"], json!([]));
    let wide = shown(&service, &["get", "units", "-o", "wide"], 0).await;
    assert!(wide.lines().next().unwrap().contains("WARNINGS"), "{wide}");
    let why = shown(&service, &["why", "a"], 0).await;
    assert!(why.contains("warning") && why.contains("a/task.yaml:6:1: unknown field `retries`"), "{why}");
    let status = shown(&service, &["status"], 0).await;
    assert!(status.contains("2 warnings on 1 unit: kindling why dir/a"), "{status}");
    let checked = shown(&service, &["validate"], 0).await;
    assert!(checked.contains("warning: src/a/task.yaml:5:1: `notify` has no effect"), "{checked}");
    let checked: Value =
        serde_json::from_str(&shown(&service, &["validate", "-o", "json"], 0).await).unwrap();
    assert_eq!((checked["items"].clone(), checked["warnings"].as_array().unwrap().len()), (json!([]), 2));
    // A unit that has only warnings keeps its version when what is wrong comes later.
    service.write("src/a/task.yaml", manifest.replace("manual: true", "webhook: /hooks/x, auth: true"));
    client.reconcile().await;
    let unit = client.unit("dir/a").await;
    assert!(condition(&unit, "Ready").contains("asks for dicode's own login"), "{unit:#}");
    assert_eq!(output(&client, "dir/a").await, "ok");
}
