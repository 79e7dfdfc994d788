//! What a task may do: Deno holds it to its sandbox, and every run gets only the variables that it names.

use std::fs;
use std::path::Path;

use kindling::model::spec::{HostVariable, ParamValue, Permissions, Runtime, Sandbox};
use serde_json::json;

use super::bench::{Bench, Job, has};

fn confined<'a>(bench: &'a Bench, sandbox: Sandbox, script: &str) -> Job<'a> {
    let mut job = bench.script(Runtime::Deno, "task.ts", script);
    job.spec.permissions = Permissions { sandbox: Some(sandbox), places: true, ..Permissions::default() };
    job
}

/// Says for each thing tried whether it was done or refused.
const TRY: &str = r#"
const attempt = (what: () => unknown) => {
  try { what(); return "done"; } catch (error) { return (error as Error).name; }
};
export default ({ params }: any) => [
  attempt(() => Deno.readTextFileSync(params.read)),
  attempt(() => Deno.writeTextFileSync(params.write, "x")),
  attempt(() => new Deno.Command("true").outputSync()),
  attempt(() => Deno.hostname()),
  attempt(() => Deno.listen({ hostname: "127.0.0.1", port: 0 }).close()),
  attempt(() => Deno.readTextFileSync(import.meta.dirname + "/task.ts")),
];
"#;

async fn tried(job: Job<'_>, read: &Path, write: &Path) -> serde_json::Value {
    let param = |path: &Path| ParamValue::String(path.display().to_string());
    job.param("read", param(read)).param("write", param(write)).run().await.well()
}

#[tokio::test]
async fn deno_holds_a_task_to_its_sandbox() {
    if !has("deno") {
        return;
    }
    let bench = Bench::new();
    let (read, write) = (bench.dir.path().join("read"), bench.dir.path().join("write"));
    fs::write(&read, "r").unwrap();
    let text = |path: &Path| path.display().to_string();
    let no = "NotCapable";
    let closed = Sandbox { net: Some(Vec::new()), ..Sandbox::default() };
    assert_eq!(
        tried(confined(&bench, closed, TRY), &read, &write).await,
        json!([no, no, no, no, no, "done"])
    );
    assert!(!write.exists());
    // The data directory is named by its place.
    let open = Sandbox {
        read: vec!["${DATADIR}/../read".into()],
        write: vec![text(&write)],
        net: Some(vec!["127.0.0.1".into()]),
        run: vec!["true".into()],
        sys: vec!["hostname".into()],
    };
    assert_eq!(tried(confined(&bench, open, TRY), &read, &write).await, json!(vec!["done"; 6]));
    assert_eq!(fs::read_to_string(&write).unwrap(), "x");
    let mut free = bench.script(Runtime::Deno, "task.ts", TRY);
    free.spec.permissions = Permissions::default();
    assert_eq!(tried(free, &read, &write).await, json!(vec!["done"; 6]));
}

#[tokio::test]
async fn a_confined_program_without_main_is_held_too() {
    if !has("deno") {
        return;
    }
    let bench = Bench::new();
    let script = "try { Deno.readTextFileSync('/etc/passwd'); console.log(1); } catch { console.log(0); }";
    assert_eq!(confined(&bench, Sandbox::default(), script).run().await.well(), json!(0));
}

#[tokio::test]
async fn a_variable_of_kindling_reaches_a_run_under_the_name_it_gave() {
    let bench = Bench::new();
    let mut job = bench.shell("echo \"$MINE-${CARGO_PKG_NAME-unset}\"");
    let host = |name: &str, optional| HostVariable { name: name.into(), optional };
    job.spec.permissions.env.insert("MINE".into(), host("CARGO_PKG_NAME", false));
    assert_eq!(job.run().await.well(), json!("kindling-unset"));
    job.spec.permissions.env.insert("MINE".into(), host("KINDLING_TEST_NO_SUCH", true));
    assert_eq!(job.run().await.well(), json!("-unset"));
    job.spec.permissions.env.insert("MINE".into(), host("KINDLING_TEST_NO_SUCH", false));
    let error = std::error::Error::source(&job.start().await.unwrap_err()).unwrap().to_string();
    assert_eq!(error, "the variable `KINDLING_TEST_NO_SUCH` is not set where kindling runs");
}
