//! Child processes and what they take.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tmc_runtime::client::get_path;
use tmc_runtime::{Connection, Credential, Endpoint, SystemDialer};

/// A child that is killed when this value is dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it, with its output in `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(name: &str, command: &mut Command, log: PathBuf) -> Result<Self> {
        let output =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// What it takes now.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn memory(&mut self) -> Result<Memory> {
        self.check()?;
        Memory::of(self.child.id())
    }

    /// The time that processors have spent on it so far, in user and kernel mode.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn processor_time(&mut self) -> Result<Duration> {
        self.check()?;
        let file = format!("/proc/{}/stat", self.child.id());
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        let ticks = processor_ticks(&text).with_context(|| format!("{file} lacks its times"))?;
        Ok(Duration::from_secs_f64(ticks as f64 / TICKS_A_SECOND))
    }

    /// An error with the end of its log if it has ended.
    ///
    /// # Errors
    /// So it has.
    pub(crate) fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(8)..].join("\n");
        bail!("{} has ended ({status}): {tail}", self.name)
    }
}

/// Clock ticks of `/proc`: 100 a second wherever Linux runs today (proc_pid_stat(5), USER_HZ).
const TICKS_A_SECOND: f64 = 100.0;

/// Fields 14 and 15 of `/proc/PID/stat`, counted behind the name, which may hold anything.
fn processor_ticks(stat: &str) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Resident memory of a process, in kB as the kernel reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// All of it (`VmRSS`).
    pub(crate) resident: u64,
    /// What no file backs (`RssAnon`).
    pub(crate) anonymous: u64,
    /// The most there has been (`VmHWM`).
    pub(crate) peak: u64,
}

impl Memory {
    fn of(pid: u32) -> Result<Self> {
        let file = format!("/proc/{pid}/status");
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        Self::parse(&text).with_context(|| format!("{file} lacks its memory"))
    }

    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.parse().ok()
        };
        Some(Self {
            resident: field("VmRSS")?,
            anonymous: field("RssAnon")?,
            peak: field("VmHWM")?,
        })
    }

    /// In megabytes (10⁶ bytes).
    pub(crate) fn megabytes(kilobytes: u64) -> f64 {
        kilobytes as f64 * 1024.0 / 1e6
    }

    /// Resident memory in megabytes.
    pub(crate) fn mb(self) -> f64 {
        Self::megabytes(self.resident)
    }

    /// For people: `12.3 MB (8.1 anonymous)`.
    pub(crate) fn shown(self) -> String {
        format!(
            "{:.1} MB ({:.1} anonymous)",
            self.mb(),
            Self::megabytes(self.anonymous)
        )
    }

    /// Raw numbers.
    pub(crate) fn to_json(self) -> Value {
        json!({"rss_kb": self.resident, "anonymous_kb": self.anonymous, "peak_kb": self.peak})
    }
}

/// A port of 127.0.0.1 that nobody uses now, given out once in this process.
///
/// # Errors
/// When there is none.
pub(crate) fn free_port() -> Result<u16> {
    // Below the range of outgoing connections: asking a port in that range again and again, until
    // somebody listens there, sooner or later connects to itself.
    const PORTS: std::ops::Range<u16> = 20_000..32_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run at the same time start at different places.
    let start = std::process::id().wrapping_mul(97);
    for _ in PORTS {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = start.wrapping_add(step) % u32::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(offset)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port in {PORTS:?}")
}

/// This program with a hidden subcommand.
pub(crate) fn own(subcommand: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(subcommand);
    Ok(command)
}

/// A program next to this one, if it was built.
pub(crate) fn beside(name: &str) -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.with_file_name(name);
    path.is_file().then_some(path)
}

/// Waits until a server at a port of 127.0.0.1 answers `/readyz` with 200. `ca` is read when it is
/// there: a server may make its certificates as it starts.
///
/// # Errors
/// When one of the processes ends, or after a minute with the last answer.
pub(crate) async fn until_ready(port: u16, ca: &Path, processes: &mut [Process]) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(1);
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(error) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
        checked(processes, deadline, &error)?;
        tokio::time::sleep(PAUSE).await;
    }
    let connection = loop {
        match trusting(port, ca) {
            Ok(connection) => break connection,
            Err(error) => checked(processes, deadline, &error)?,
        }
        tokio::time::sleep(PAUSE).await;
    };
    let client = connection.client("");
    while let Err(error) = get_path(&client, "/readyz").await {
        checked(processes, deadline, &error)?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// A connection to a port of 127.0.0.1, once the file with its CA is complete.
fn trusting(port: u16, ca: &Path) -> Result<Connection> {
    let pem = std::fs::read(ca).with_context(|| format!("cannot read {}", ca.display()))?;
    let url = format!("https://127.0.0.1:{port}");
    let endpoint = Endpoint::new(&url, pem, Credential::Anonymous)?;
    Ok(Connection::https(&endpoint, Arc::new(SystemDialer))?)
}

fn checked(
    processes: &mut [Process],
    deadline: Instant,
    last: &dyn std::fmt::Display,
) -> Result<()> {
    for process in processes {
        process.check()?;
    }
    if Instant::now() > deadline {
        bail!("not ready after a minute: {last}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_kernels_table() {
        let text = "Name:\tx\nVmHWM:\t   300 kB\nVmRSS:\t    200 kB\nRssAnon:\t     100 kB\n";
        let memory = Memory {
            resident: 200,
            anonymous: 100,
            peak: 300,
        };
        assert_eq!(Memory::parse(text), Some(memory));
        assert_eq!(Memory::parse("Name:\tx\n"), None);
        let own = Memory::of(std::process::id()).expect("our own");
        assert!(own.peak >= own.resident && own.resident >= own.anonymous && own.anonymous > 0);
    }

    #[test]
    fn processor_time_is_read_behind_a_name_with_any_characters() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 99 0 0";
        assert_eq!(processor_ticks(stat), Some(300));
        assert_eq!(processor_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn free_ports_differ_and_are_not_those_of_outgoing_connections() {
        let (one, other) = (free_port().expect("one"), free_port().expect("another"));
        assert_ne!(one, other);
        assert!((20_000..32_000).contains(&one));
    }

    #[test]
    fn a_child_that_ended_is_reported_with_its_log() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = Command::new("sh");
        command.args(["-c", "echo why; exit 3"]);
        let mut process =
            Process::start("child", &mut command, directory.path().join("log")).expect("started");
        process.child.wait().expect("ends");
        let error = process.memory().expect_err("gone").to_string();
        assert!(
            error.contains("exit status: 3") && error.contains("why"),
            "{error}"
        );
    }
}
