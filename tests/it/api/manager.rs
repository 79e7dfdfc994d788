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
