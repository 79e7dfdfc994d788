//! What a service manager such as systemd is told: the real binary with `NOTIFY_SOCKET`.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use super::service;
use crate::service::BOUND;

fn heard(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let read = socket.recv(&mut buffer).expect("a word within the bound");
    String::from_utf8(buffer[..read].to_vec()).unwrap()
}

async fn told(socket: UnixDatagram, name: &str) {
    socket.set_read_timeout(Some(BOUND)).unwrap();
    let variable = format!("NOTIFY_SOCKET={name}");
    let mut service = service().through(&["env", &variable]);
    service.write("tasks/hello/task.sh", "env\n");
    let client = service.start().await;
    assert_eq!(heard(&socket), "READY=1");
    // Nothing that is started may speak for the service.
    let run = client.run("hello").await;
    assert!(!run["output"].as_str().unwrap().contains("NOTIFY_SOCKET"), "{run}");
    assert_eq!(service.terminate().await.code(), Some(0));
    assert_eq!(heard(&socket), "STOPPING=1");
}

#[tokio::test]
async fn a_manager_hears_when_it_is_ready_and_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    told(UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap()).await;
}

#[tokio::test]
async fn a_manager_may_listen_at_a_name_that_lies_in_no_directory() {
    let name = format!("kindling-manager-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    told(UnixDatagram::bind_addr(&address).unwrap(), &format!("@{name}")).await;
}

#[test]
fn the_unit_of_systemd_gives_the_service_the_time_that_it_takes() {
    let unit = include_str!("../../../deploy/kindling.service");
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap();
    for (key, wanted) in [
        ("Type", "notify"),
        ("KillMode", "process"),
        ("StateDirectory", "kindling"),
        ("NotifyAccess", "main"),
    ] {
        assert_eq!(value(key), wanted);
    }
    let limit: u64 = value("TimeoutStopSec").parse().unwrap();
    assert!(
        limit > kindling::support::lifecycle::HARD_AFTER.as_secs(),
        "it would be killed before it gives up"
    );
    assert_eq!(value("RestartPreventExitStatus"), "2", "the exit code of a wrong configuration");
}

#[test]
fn the_configuration_of_the_page_on_operations_is_one() {
    let page = include_str!("../../../docs/operations.md");
    let from = page.find("    server: {token_file").unwrap();
    let text: String =
        page[from..].lines().take_while(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect();
    let file = std::path::Path::new("/etc/kindling/kindling.yaml");
    let role = kindling::config::Role::Client;
    let settings = kindling::config::parse(file, text.as_bytes(), &|_| None, role).unwrap();
    assert_eq!(settings.data_dir, std::path::Path::new("/var/lib/kindling"));
}
