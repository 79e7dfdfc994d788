//! A disk and a database that fail.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::Instant;

use super::{assert_prints, text, with_tasks};
use crate::service::client::condition;
use crate::service::{manifest, until};

/// A small file system in memory, for as long as this lives.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this user may not mount.
    pub fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(at.to_owned()))
    }

    /// Takes all the room that there is.
    pub fn fill(&self) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.0.join("filler")).unwrap();
        // Page by page: a larger piece that does not fit would leave room.
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is being ended may still hold it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_everything_is_live_once_there_is_room() {
    let mut service = with_tasks(&["a", "b"]);
    let Some(disk) = SmallDisk::mount(&service.data_dir()) else {
        println!("passed over: this user cannot mount a small file system");
        return;
    };
    let gate = service.root().join("gate");
    service.task(
        "src/slow",
        &format!("while [ ! -e '{}' ]; do sleep 0.02; done\nprintf slow\n", gate.display()),
    );
    service.write("src/hook/task.yaml", manifest("hook", "webhook: /hooks/full"));
    service.write("src/hook/task.sh", "printf called\n");
    let client = service.start().await;
    let slow = client.post("/api/v1/runs", json!({"task": "dir/slow"})).await;
    client.unit_until("dir/hook", "is served", |unit| unit["hook"] == "/hooks/full").await;
    disk.fill();
    let not_ready = async || {
        let answer = client.call("GET", "/readyz", None).await.unwrap();
        (answer.status == 503).then_some(answer.body)
    };
    let why = until("it is not ready", not_ready).await;
    assert!(why.contains("takes no more writes"), "{why}");
    fs::write(gate, "").unwrap();
    service.task("src/a", "printf 'a again'\n");
    service.task("src/new", "printf 'new'\n");
    let source =
        client.source_until("dir", "says so", |source| condition(source, "Ready").starts_with("False")).await;
    let said = condition(&source, "Ready");
    assert!(
        said.contains(service.data_dir().to_str().unwrap()) || said.contains("cannot be stored"),
        "{said}"
    );
    let status = client.get("/api/v1/status").await;
    assert_eq!(status["ready"], false, "{status:#}");
    // What can be answered is answered; a run that cannot be recorded is not begun.
    assert_eq!(client.call("GET", "/healthz", None).await.unwrap().status, 200);
    for path in ["units", "sources", "history", "runs", "why?unit=dir/a"] {
        client.get(&format!("/api/v1/{path}")).await;
    }
    let answer = client.call("POST", "/api/v1/runs", Some(&json!({"task": "dir/b"}))).await.unwrap();
    assert_eq!((answer.status, answer.json()["exit"].as_u64()), (503, Some(3)), "{answer:?}");
    // Who calls a webhook may be anybody: where the store lies is for the log.
    let answer = client.call("POST", "/hooks/full", None).await.unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.json()["message"], "the run could not be recorded; come again later");
    let told = "calls of task webhooks that could not become runs";
    assert!(service.log().contains(told), "{}", service.log());
    disk.make_room();
    service.ready().await;
    client.source_until("dir", "is well", |source| condition(source, "Ready").starts_with("True")).await;
    client.post("/api/v1/wait", json!({})).await;
    for (task, output) in [("dir/a", "a again"), ("dir/b", "this is b"), ("dir/new", "new")] {
        assert_prints(&client, task, output).await;
    }
    let slow = client.get(&format!("/api/v1/runs/{}/wait", text(&slow, "id"))).await;
    assert_eq!((text(&slow, "status"), text(&slow, "output")), ("succeeded", "slow"), "{slow:#}");
    assert_eq!(client.get("/api/v1/status").await["ready"], true);
    assert!(service.terminate().await.success());
}

#[tokio::test]
async fn a_cancel_whose_end_cannot_be_recorded_is_answered() {
    let mut service = with_tasks(&["a"]);
    let Some(disk) = SmallDisk::mount(&service.data_dir()) else {
        println!("passed over: this user cannot mount a small file system");
        return;
    };
    service.task("src/long", "sleep 300\n");
    let client = service.start().await;
    let run = client.post("/api/v1/runs", json!({"task": "dir/long"})).await;
    let path = format!("/api/v1/runs/{}", text(&run, "id"));
    disk.fill();
    let asked = Instant::now();
    let (cancel, nothing) = (format!("{path}/cancel"), json!({}));
    let cancel = client.call("POST", &cancel, Some(&nothing));
    let answer =
        tokio::time::timeout(Duration::from_secs(60), cancel).await.expect("it is answered").unwrap();
    assert_eq!((answer.status, answer.json()["exit"].as_u64()), (503, Some(3)), "{answer:?}");
    let said = answer.json();
    let said = text(&said, "message");
    assert!(said.contains("was told to end, but its end is not recorded yet"), "{said}");
    assert!(said.contains("takes no more writes"), "{said}");
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    disk.make_room();
    let run = client.get(&format!("{path}/wait")).await;
    assert_eq!(text(&run, "status"), "cancelled", "{run:#}");
}

/// Tries to start over a database that cannot be used: the file stays as it is. Gives back what was said.
async fn refused_database(change: impl AsyncFnOnce(&Path)) -> String {
    let mut service = with_tasks(&["a"]);
    service.start().await;
    assert!(service.terminate().await.success());
    let database = service.data_dir().join("kindling.db");
    change(&database).await;
    let before = fs::read(&database).unwrap();
    let (code, said) = service.refused().await;
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains(database.to_str().unwrap()), "{said}");
    assert_eq!(fs::read(&database).unwrap(), before, "the database was changed");
    assert!(!service.data_dir().join("address").exists());
    said
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_named_and_left_alone() {
    let said = refused_database(async |path| {
        let mut conn = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
        let sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                   VALUES (9001, 'from the future', 1, x'00', 0)";
        sqlx::query(sql).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
    });
    let said = said.await;
    assert!(said.contains("newer version of kindling") && said.contains("9001"), "{said}");
}

#[tokio::test]
async fn a_damaged_database_is_named_and_left_alone() {
    let foreign = refused_database(async |path| fs::write(path, "no database at all\n".repeat(900)).unwrap());
    let beginning = refused_database(async |path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[100..4000].fill(0xff);
        fs::write(path, bytes).unwrap();
    });
    let cut = refused_database(async |path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..4096 * 3]).unwrap();
    });
    for said in [foreign.await, beginning.await, cut.await] {
        assert!(said.contains("is damaged, or is no database of kindling"), "{said}");
    }
}

#[tokio::test]
async fn an_emptied_database_is_named_and_left_alone_with_what_to_do() {
    let said = refused_database(async |path| fs::write(path, "").unwrap()).await;
    assert!(said.contains("is empty, but blobs beside it says that there was a database"), "{said}");
    assert!(said.contains("hint: restore a backup of it, or move it away"), "{said}");
}

#[tokio::test]
async fn an_unreadable_file_breaks_its_own_unit_until_it_can_be_read() {
    let mut service = with_tasks(&["a", "b", "c"]);
    if rustix::process::getuid().is_root() {
        // Root reads everything, unless it gives that right away.
        let dropped = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"];
        if !Command::new(dropped[0]).args(&dropped[1..]).arg("true").status().is_ok_and(|s| s.success()) {
            println!("passed over: root can read everything, and setpriv is not there");
            return;
        }
        service = service.through(&dropped);
    }
    let mode = |path: &str, mode| {
        fs::set_permissions(service.root().join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    service.write("src/b/secret.txt", "not to be read\n");
    for path in ["src/b/secret.txt", "src/c/task.yaml"] {
        mode(path, 0o000);
    }
    let files = [("dir/b", "b/secret.txt"), ("dir/c", "c/task.yaml")];
    let root = service.root().to_owned();
    let client = service.start().await;
    client.post("/api/v1/wait", json!({})).await;
    assert_prints(&client, "dir/a", "this is a").await;
    for (id, file) in files {
        let unit = client.unit(id).await;
        let problem = &unit["problems"][0];
        assert_eq!((text(problem, "reason"), text(problem, "file")), ("Unreadable", file), "{unit:#}");
        assert!(text(problem, "message").contains("Permission denied"), "{unit:#}");
        assert!(unit["desiredHash"].is_null(), "{unit:#}");
    }
    for (_, file) in files {
        fs::set_permissions(root.join("src").join(file), fs::Permissions::from_mode(0o644)).unwrap();
    }
    for (id, _) in files {
        client.unit_until(id, "is live", |unit| unit["deployedHash"].is_string()).await;
    }
    assert_prints(&client, "dir/b", "this is b").await;
    assert_prints(&client, "dir/c", "this is c").await;
}
