//! The service and the command line together, as `init` tells a person to use them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::place::Place;

/// A service that ends with the test.
struct Service(Child);

impl Service {
    /// Starts it and waits until it says where it listens.
    fn start(place: &Place) -> Self {
        let mut child =
            place.command(&["serve"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (serving, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // Read to the end, so that the service never waits for its log to be taken.
            for line in lines.map_while(Result::ok) {
                let _ = serving.send(line);
            }
        });
        let service = Self(child);
        let limit = std::time::Duration::from_secs(30);
        while !heard
            .recv_timeout(limit)
            .expect("it says that it serves")
            .contains("serving on http://127.0.0.1:")
        {}
        service
    }

    fn end(mut self) -> i32 {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        self.0.wait().unwrap().code().expect("it ends by itself")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_init_makes_runs_by_the_commands_that_it_names() {
    let place = Place::new();
    assert_eq!(place.run(&["init"]).code, 0);
    // Any free port: others may use the default one.
    let settings = place.read("kindling.yaml").replace("127.0.0.1:7070", "127.0.0.1:0");
    place.write("kindling.yaml", &settings);
    let service = Service::start(&place);
    assert_eq!(place.run(&["wait"]).code, 0);
    let ran = place.run(&["run", "hello", "-p", "name=you"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "hello, you\n", "greeting you\n"));
    assert_eq!(place.run(&["get", "units", "-o", "name"]).out, "local/hello\n");
    let status = place.run(&["status"]);
    assert!(status.code == 0 && status.out.contains("everything is ready"), "{}", status.shown());
    assert_eq!(place.run(&["check"]).code, 0);

    place.write("tasks/hello/task.sh", "echo changed; exit 3\n");
    assert_eq!(place.run(&["wait"]).code, 0);
    let ran = place.run(&["run", "hello"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, "changed\n"), "{}", ran.shown());
    assert_eq!(place.run(&["logs", "hello"]).code, 0);
    assert!(place.run(&["why", "hello"]).out.contains("changed task.sh"));
    assert_eq!(place.run(&["rollback", "hello"]).code, 0);
    let held = place.run(&["get", "units"]);
    assert!(held.out.contains("held"), "{}", held.out);
    assert_eq!(place.run(&["resume", "hello"]).code, 0);

    place.write("tasks/hello/task.yaml", "{}\n");
    let broken = place.run(&["wait"]);
    assert!(broken.code == 1 && broken.out.contains("hello/task.yaml:1:1"), "{}", broken.shown());
    assert_eq!(place.run(&["status"]).code, 1);

    assert_eq!(service.end(), 0);
    assert_eq!(place.run(&["status"]).code, 3);
}
