//! Child processes: commands with a time limit, and servers that do not outlive this process.

use std::fs::File;
use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::scratch::{dismiss, watchdog};
use super::wait::try_until;

/// What a command has come to.
#[derive(Debug)]
pub(crate) struct Output {
    /// The command line.
    pub(crate) command: String,
    /// Its exit code; none when a signal ended it.
    pub(crate) code: Option<i32>,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
    /// Whether it took too long and was killed.
    pub(crate) timed_out: bool,
}

impl Output {
    /// Whether it exited with 0.
    pub(crate) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// Its standard output; panics unless it exited with 0.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(self.succeeded(), "should succeed: {self}");
        self.stdout
    }

    /// Its standard error; panics unless it exited with `code`.
    #[track_caller]
    pub(crate) fn fails_with(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "should exit with {code}: {self}");
        self.stderr
    }

    /// Its standard output parsed as JSON; panics unless it exited with 0.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = match (self.timed_out, self.code) {
            (true, _) => "killed, it took too long".to_owned(),
            (false, Some(code)) => format!("exit code {code}"),
            (false, None) => "ended by a signal".to_owned(),
        };
        write!(
            f,
            "{}\n{end}\n--- stdout\n{}\n--- stderr\n{}",
            self.command, self.stdout, self.stderr
        )
    }
}

/// The command as a person would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// Runs a command to its end, or kills it and its children after `limit`.
pub(crate) fn run(command: &mut Command, input: &[u8], limit: Duration) -> Output {
    let shown = shown(command);
    let deadline = Instant::now() + limit;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
    feed(&mut child, input);
    let stdout = collect(child.stdout.take().expect("piped"));
    let stderr = collect(child.stderr.take().expect("piped"));
    let (status, timed_out) = match wait_for_exit(&mut child, deadline) {
        Some(status) => (Some(status), false),
        None => {
            let _ = kill_process_group(pid_of(&child), Signal::KILL);
            (child.wait().ok(), true)
        }
    };
    // What the command left running may hold the pipes open: no wait without a limit here either.
    let text = |receiver: mpsc::Receiver<Vec<u8>>| {
        let bytes = receiver
            .recv_timeout(Duration::from_secs(5))
            .unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Output {
        command: shown,
        code: status.and_then(|status| status.code()),
        stdout: text(stdout),
        stderr: text(stderr),
        timed_out,
    }
}

fn feed(child: &mut Child, input: &[u8]) {
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // A child that does not read must not block us; one that is gone is found out by its exit code.
    thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
}

fn collect(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

fn wait_for_exit(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            _ => return None,
        }
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// A child that runs until it is told to stop.
///
/// It leads a process group, which is killed when this value is dropped and when this process ends.
pub(crate) struct Server {
    name: String,
    child: Child,
    log: PathBuf,
    watchdog: Child,
}

impl Server {
    /// Starts it, with its output in `log`.
    pub(crate) fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log file");
        let errors = output.try_clone().expect("a second handle");
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let group = child.id().to_string();
        let script = "read -r _; kill -s KILL -- \"-$1\"";
        let watchdog = watchdog(script, group.as_ref());
        Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            watchdog,
        }
    }

    /// If it has ended: how, and the end of its log.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!(
            "{} has ended ({status}); its log ends:\n{}",
            self.name,
            self.log_tail()
        ))
    }

    /// The end of its log.
    pub(crate) fn log_tail(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill_process(pid_of(&self.child), signal);
    }

    /// Waits for its end; its exit code, none if a signal ended it.
    #[track_caller]
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<i32> {
        match wait_for_exit(&mut self.child, Instant::now() + limit) {
            Some(status) => status.code(),
            None => panic!(
                "{} has not ended within {} s; its log ends:\n{}",
                self.name,
                limit.as_secs(),
                self.log_tail()
            ),
        }
    }

    /// Kills it as `kill -9` does and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = kill_process_group(pid_of(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            self.kill();
        }
        dismiss(&mut self.watchdog);
    }
}

/// Asks `check` until it has an answer, and gives up at once when one of `servers` has ended.
///
/// # Errors
/// What `check` last said, or which server ended.
pub(crate) fn until_served<T>(
    servers: &mut [Server],
    limit: Duration,
    mut check: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let found = try_until(limit, || match servers.iter_mut().find_map(Server::ended) {
        Some(ended) => Ok(Err(ended)),
        None => check().map(Ok),
    });
    match found {
        Ok(outcome) => outcome,
        Err(last) => {
            let logs = servers
                .iter()
                .map(|s| format!("--- {}\n{}", s.name, s.log_tail()));
            Err(format!("{last}\n{}", logs.collect::<Vec<_>>().join("\n")))
        }
    }
}
