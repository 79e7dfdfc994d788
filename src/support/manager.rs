//! Tells the service manager that started this process how it stands: systemd's notification protocol, a datagram to
//! the socket that `NOTIFY_SOCKET` names. Without one there is nobody to tell, and nothing is done.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable that names the socket.
pub const VARIABLE: &str = "NOTIFY_SOCKET";

/// The service is ready: what waits for it may start.
pub const READY: &str = "READY=1";
/// The service has begun to end.
pub const STOPPING: &str = "STOPPING=1";

/// Where a service manager listens.
#[derive(Debug, Default)]
pub struct Manager(Option<OsString>);

impl Manager {
    /// The manager that `NOTIFY_SOCKET` names, if there is one.
    #[must_use]
    pub fn look(env: &dyn Fn(&str) -> Option<OsString>) -> Self {
        Self(env(VARIABLE).filter(|socket| !socket.is_empty()))
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Sends one message; does nothing where there is no manager.
    ///
    /// # Errors
    /// The socket is not there, or takes nothing.
    pub fn tell(&self, state: &str) -> io::Result<()> {
        let Some(socket) = &self.0 else { return Ok(()) };
        let address = address(socket)?;
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
    }
}

/// A path, or behind an `@` a name that lies in no file system.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(socket),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let read = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..read].to_vec()).unwrap()
    }

    fn manager(socket: &str) -> Manager {
        let socket = OsString::from(socket);
        Manager::look(&move |name| (name == VARIABLE).then(|| socket.clone()))
    }

    #[test]
    fn a_socket_in_a_directory_hears_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        manager(path.to_str().unwrap()).tell(READY).unwrap();
        assert_eq!(heard(&socket), "READY=1");
    }

    #[test]
    fn a_socket_without_a_place_hears_it() {
        let name = format!("kindling-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        manager(&format!("@{name}")).tell(STOPPING).unwrap();
        assert_eq!(heard(&socket), "STOPPING=1");
    }

    #[test]
    fn nobody_is_told_where_nobody_asked() {
        assert!(!manager("").is_there());
        manager("").tell(READY).unwrap();
        assert!(manager("/nowhere/notify").tell(READY).is_err());
    }
}
