//! Repositories that sets lead to, through the real binary.

use serde_json::{Value, json};

use super::*;
use crate::service::client::{Client, condition};
use crate::service::{Service, manifest};

fn set(entries: &str) -> String {
    format!("apiVersion: kindling/v1\nkind: TaskSet\nspec:\n  entries:\n{entries}")
}

fn publish(repo: &Repo, text: &str) -> String {
    repo.publish(&[
        ("t/task.yaml", &manifest("t", "manual: true")),
        ("t/task.sh", &format!("printf '%s' '{text}'\n")),
    ])
}

async fn prints(client: &Client, unit: &str, text: &str) -> bool {
    client.run(unit).await["output"] == text
}

#[tokio::test]
async fn a_set_of_a_directory_leads_to_a_repository_of_this_machine() {
    let repo = Repo::new();
    let first = publish(&repo, "one");
    let dir = tempfile::tempdir().unwrap();
    let url = repo.bare().display().to_string();
    let entry = format!("    far: {{ref: {{url: '{url}', branch: main, path: t}}}}\n");
    let own = "    own: {inline: {command: ['true'], trigger: {manual: true}}}\n";
    std::fs::write(dir.path().join("taskset.yaml"), set(&format!("{entry}{own}"))).unwrap();
    let mut service =
        Service::new(&format!("sources: [{{name: s, local: {{path: '{}'}}}}]\n", dir.path().display()));
    let client = service.start().await;
    client.reconcile().await;
    assert!(prints(&client, "far", "one").await);
    assert_eq!(client.unit("s/far").await["deployedRevision"], json!(first));
    let second = publish(&repo, "two");
    client.reconcile().await;
    assert!(prints(&client, "far", "two").await);
    assert_eq!(client.unit("s/far").await["deployedRevision"], json!(second));
    // It goes away, also over a restart, and comes back.
    let away = repo.root().join("away.git");
    std::fs::rename(repo.bare(), &away).unwrap();
    client.reconcile().await;
    let seen = client.source_until("s", "says so", |s| condition(s, "Ready").starts_with("False")).await;
    assert!(condition(&seen, "Ready").contains(&url), "{seen}");
    assert!(prints(&client, "far", "two").await);
    service.kill();
    let client = service.start().await;
    client.source_until("s", "says so again", |s| condition(s, "Ready").starts_with("False")).await;
    assert!(prints(&client, "far", "two").await);
    std::fs::rename(&away, repo.bare()).unwrap();
    publish(&repo, "three");
    client.reconcile().await;
    client.source_until("s", "is well", |s| condition(s, "Ready").starts_with("True")).await;
    assert!(prints(&client, "far", "three").await);
    std::fs::write(dir.path().join("taskset.yaml"), set(own)).unwrap();
    client.reconcile().await;
    let left = client.items("/api/v1/units").await;
    let left: Vec<_> = left.iter().map(|unit| unit["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(left, ["s/own"]);
}

#[tokio::test]
async fn a_set_of_a_repository_leads_to_another_one_of_its_server_alone() {
    let repo = Repo::new();
    let first = publish(&repo, "one");
    repo.git(&["clone", "--quiet", "--bare", repo.bare().to_str().unwrap(), "../other.git"]);
    let (remote, stranger) = (HttpRemote::serve(repo.root()), HttpRemote::serve(repo.root()));
    let entry = |name: &str, url: &str| format!("    {name}: {{ref: {{url: '{url}', path: t}}}}\n");
    let entries = [
        entry("near", &remote.url("other.git")),
        entry("far", &stranger.url("other.git")),
        entry("disk", repo.bare().to_str().unwrap()),
    ];
    repo.publish(&[("taskset.yaml", &set(&entries.concat()))]);
    let source = format!("git: {{url: '{}', poll_interval: 1h}}", remote.url("remote.git"));
    let mut service = Service::new(&format!("sources: [{{name: s, {source}}}]\n"));
    let client = service.start().await;
    let near = client.unit_until("s/near", "is there", |unit| unit["deployedRevision"] == json!(first)).await;
    assert!(prints(&client, "near", "one").await, "{near}");
    for (unit, why) in [("s/far", "plain HTTP"), ("s/disk", "a directory of this machine")] {
        let unit = client.unit(unit).await;
        assert_eq!(
            (&unit["problems"][0]["reason"], &unit["deployedHash"]),
            (&json!("NotAllowed"), &json!(null))
        );
        assert!(unit["problems"][0]["message"].as_str().unwrap().contains(why), "{unit}");
    }
    assert_eq!(stranger.requests(), 0);
}

#[tokio::test]
async fn a_restart_keeps_the_copies_that_sets_lead_to() {
    let repo = Repo::new();
    publish(&repo, "one");
    repo.git(&["clone", "--quiet", "--bare", repo.bare().to_str().unwrap(), "../other.git"]);
    let entry = |url: &Path| format!("    far: {{ref: {{url: '{}', path: t}}}}\n", url.display());
    repo.publish(&[("taskset.yaml", &set(&entry(&repo.root().join("other.git"))))]);
    let source = format!("git: {{url: '{}', poll_interval: 1s}}", repo.bare().display());
    let mut service = Service::new(&format!("sources: [{{name: s, {source}}}]\n"));
    let client = service.start().await;
    client.unit_until("s/far", "is there", |unit| unit["deployedHash"].is_string()).await;
    let dir = service.data_dir().join("git");
    let before = copies(&dir);
    assert_eq!(before.len(), 2);
    service.kill();
    let client = service.start().await;
    client.source_until("s", "is well", |s| condition(s, "Ready").starts_with("True")).await;
    assert_eq!(copies(&dir), before, "nothing was fetched again");
    // While the source cannot be read, and no copy of it is there, nobody knows what its sets lead to.
    service.kill();
    let away = repo.root().join("away.git");
    std::fs::rename(repo.bare(), &away).unwrap();
    let own = |name: &str| name.starts_with("remote-");
    for (name, _) in before.iter().filter(|(name, _)| own(name)) {
        std::fs::remove_dir_all(dir.join(name)).unwrap();
    }
    let client = service.start().await;
    let stops = |s: &Value| condition(s, "Ready").starts_with("False RemoteUnreachable");
    client.source_until("s", "says so", stops).await;
    // Longer than what is unused takes to go.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let far: Vec<_> = before.iter().filter(|(name, _)| !own(name)).cloned().collect();
    assert_eq!(copies(&dir), far);
    std::fs::rename(&away, repo.bare()).unwrap();
    client.source_until("s", "is well", |s| condition(s, "Ready").starts_with("True")).await;
    assert!(copies(&dir).iter().any(|copy| far.contains(copy)));
    // What nothing leads to any more goes with its source, and what a killed service left at the next start.
    service.task("none/t", "echo\n");
    for is_killed in [false, true] {
        if is_killed {
            service.kill();
        }
        service.configure("sources: [{name: t, local: {path: none}}]\n");
        if is_killed {
            service.start().await;
        }
        crate::service::until("they are gone", async || copies(&dir).is_empty().then_some(())).await;
        if !is_killed {
            service.configure(&format!("sources: [{{name: s, {source}}}]\n"));
            client.unit_until("s/far", "is there", |unit| unit["deployedHash"].is_string()).await;
        }
    }
}

/// The folders of copies, each with what tells it from another one of its name.
fn copies(dir: &Path) -> Vec<(String, u64)> {
    use std::os::unix::fs::MetadataExt;
    let all = std::fs::read_dir(dir).unwrap().flatten();
    let named = all.map(|copy| (copy.file_name().into_string().unwrap(), copy.metadata().unwrap().ino()));
    let mut all: Vec<_> = named.collect();
    all.sort();
    all
}
