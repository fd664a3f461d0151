//! Our programs as processes, as a service manager runs them: started, asked to stop, killed.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use crate::wait::until;

/// The path of one of the workspace's programs.
///
/// # Panics
/// It has not been built: `make test` builds all of them first.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    test.ancestors()
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not built: run `cargo build --workspace` first"))
}

/// Runs one of our programs to its end, with nothing of this process's settings.
///
/// # Panics
/// It cannot be started.
#[must_use]
pub fn run(name: &str, args: &[&str]) -> Output {
    command(name)
        .args(args)
        .output()
        .expect("the program was just found")
}

/// One of our programs, about to be started.
#[must_use]
pub fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("TUYUN") {
            command.env_remove(key);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// A port that was free a moment ago.
///
/// # Panics
/// No port is free at all.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("some port is free");
    listener.local_addr().expect("it is bound").port()
}

/// A running daemon, killed when it goes out of scope.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program; what it says goes to a file in `dir`.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(name: &str, args: &[&str], dir: &Path) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log in a test's folder");
        let child = command(name)
            .args(args)
            .env("TUYUN_LOG", "debug")
            .stdout(file.try_clone().expect("a second descriptor"))
            .stderr(file)
            .spawn()
            .expect("the program was just found");
        Self { child, log }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it has said.
    #[must_use]
    pub fn log(&self) -> String {
        let mut text = String::new();
        let _ = File::open(&self.log).and_then(|mut file| file.read_to_string(&mut text));
        text
    }

    /// The exit status, once it has ended.
    ///
    /// # Panics
    /// The process cannot be asked.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Asks it to stop, and waits for the end.
    ///
    /// # Panics
    /// It does not stop.
    #[must_use]
    pub fn stop(mut self) -> ExitStatus {
        self.signal(libc::SIGTERM);
        until("the daemon has stopped", || self.ended())
    }

    /// Ends it without a word, as the kernel does when memory runs out.
    ///
    /// # Panics
    /// It cannot be killed.
    pub fn kill(mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// The signal does not exist.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .expect("a process id");
        let signal = rustix::process::Signal::from_named_raw(signal).expect("a signal");
        let _ = rustix::process::kill_process(pid, signal);
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_stem().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let text = self.log();
            // Whole, for whoever asks for it: what went wrong may be long ago.
            if let Some(dir) = std::env::var_os("TUYUN_FAILED_LOGS") {
                let name = format!("{}-{}.log", self.child.id(), file_name(&self.log));
                let _ = std::fs::write(Path::new(&dir).join(name), &text);
            }
            let tail: Vec<&str> = text.lines().rev().take(60).collect();
            let mut out = std::io::stderr().lock();
            let _ = writeln!(out, "--- {}", self.log.display());
            for line in tail.iter().rev() {
                let _ = writeln!(out, "{line}");
            }
        }
    }
}
