//! What systemd is told: when the folder is there, and that a stop which still sends needs its time.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use graph_emulator::{Profile, Route};
use harness::cloud::Cloud;
use harness::mount::Mount;
use harness::needs::{self, Need};
use harness::process::command;
use harness::wait::DEADLINE;
use rustix::process::{Pid, Signal, kill_process};

/// The socket of a manager, which hears one thing after the other.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(DEADLINE)).expect("a limit");
        Self(socket)
    }

    fn hears(&self, what: &str) {
        let mut text = String::new();
        while !text.lines().any(|line| line.starts_with(what)) {
            let mut bytes = [0; 4096];
            let len = self.0.recv(&mut bytes);
            let len = len.unwrap_or_else(|error| panic!("{what} was not said: {error}"));
            text = String::from_utf8_lossy(&bytes[..len]).into_owned();
        }
    }
}

#[test]
fn systemd_hears_of_the_mount_and_of_a_stop_that_is_still_sending() {
    if !needs::met(&[Need::Root, Need::Fuse]) {
        return;
    }
    let cloud = Cloud::start(Profile::Business);
    let mount = Mount::prepare(&cloud, &[]);
    mount.login(&cloud);
    let path = mount.dir().join("notify");
    let manager = Manager::at(&path);
    let log = std::fs::File::create(mount.dir().join("tuyunfs.log")).expect("a log");
    let mut daemon = command("tuyunfs")
        .args(["mount", "--config", &mount.config.display().to_string()])
        .env("NOTIFY_SOCKET", &path)
        .stderr(log)
        .spawn()
        .expect("it starts");
    manager.hears("READY=1");
    assert!(mount.is_mounted());
    cloud.0.hold(Route::PutContent);
    std::fs::write(mount.point.join("a.gif"), "GIF89a").expect("a file");
    let pid = i32::try_from(daemon.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process"), Signal::TERM).expect("it is ours");
    manager.hears("STOPPING=1");
    manager.hears("EXTEND_TIMEOUT_USEC=20000000");
    cloud.0.release(Route::PutContent);
    assert!(daemon.wait().expect("it is our child").success());
    cloud.has("share/mount/a.gif", b"GIF89a");
}
