//! Starting processes, and making sure that none outlives its purpose.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Runs `command` with our standard streams; true when it exits with 0.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    Ok(status.success())
}

/// As [`succeeds`], and shows each line of the standard output to `see` when it has been passed on.
pub(crate) fn succeeds_seen(command: &mut Command, mut see: impl FnMut(&str)) -> Result<bool> {
    let name = command.get_program().display().to_string();
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let output = child.stdout.take().context("its output is piped")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.with_context(|| format!("cannot read from {name}"))?;
        let mut out = std::io::stdout().lock();
        out.write_all(&line)?;
        out.write_all(b"\n")?;
        see(&String::from_utf8_lossy(&line));
    }
    Ok(child.wait()?.success())
}

/// The trimmed standard output of `command`, which must exit with 0.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let name = command.get_program().display().to_string();
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{name} failed with {}",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Where `program` is on the PATH.
pub(crate) fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// How a script ended.
pub(crate) enum Ended {
    /// By itself.
    With(ExitStatus),
    /// It was still running when its time was over.
    TimedOut,
}

/// Runs `command` in a process group of its own, with its output in `log` and
/// no input, for at most `limit`. Nothing of the group is left on return, nor
/// when this process dies: a watchdog, which waits for a pipe that we hold
/// open, ends the group.
pub(crate) fn run_group(command: &mut Command, log: &Path, limit: Duration) -> Result<Ended> {
    let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let watchdog = match Watchdog::over(child.id()) {
        Ok(watchdog) => watchdog,
        Err(error) => {
            // Only the child itself can be reached without the watchdog.
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
    };
    let deadline = Instant::now() + limit;
    let ended = loop {
        if let Some(status) = child.try_wait()? {
            break Ended::With(status);
        }
        if Instant::now() >= deadline {
            break Ended::TimedOut;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    // In this order: while the child is not reaped its group exists.
    let mut watchdog = watchdog.let_go();
    let reaped = child.wait();
    watchdog.wait()?;
    reaped?;
    Ok(ended)
}

/// A shell that ends a process group as soon as its input closes: TERM at
/// once, KILL to what is left after five seconds.
struct Watchdog(Child);

const WATCHDOG: &str = r#"
read -r _
kill -TERM -- "-$1" 2>/dev/null
for _ in {1..50}; do
    kill -0 -- "-$1" 2>/dev/null || exit 0
    sleep 0.1
done
kill -KILL -- "-$1" 2>/dev/null
exit 0
"#;

impl Watchdog {
    fn over(group: u32) -> Result<Self> {
        let child = Command::new("bash")
            .args(["-c", WATCHDOG, "watchdog", &group.to_string()])
            .process_group(0)
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot start bash")?;
        Ok(Self(child))
    }

    /// Lets it end the group; it exits when nothing of the group is left.
    fn let_go(mut self) -> Child {
        drop(self.0.stdin.take());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(pid: &str) -> bool {
        // A zombie is dead for our purpose.
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
            !stat
                .rsplit(')')
                .next()
                .unwrap_or_default()
                .starts_with(" Z")
        })
    }

    fn log(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("xtask-{}-{name}.log", std::process::id()))
    }

    #[test]
    fn a_background_process_does_not_outlive_its_script() {
        let log = log("background");
        let mut script = Command::new("bash");
        script.args(["-c", "sleep 300 & echo $!"]);
        let ended = run_group(&mut script, &log, Duration::from_secs(60)).unwrap();
        assert!(matches!(ended, Ended::With(status) if status.success()));
        let pid = std::fs::read_to_string(&log).unwrap();
        assert!(!alive(pid.trim()));
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_script_that_takes_too_long_is_ended_with_its_children() {
        let log = log("timeout");
        let mut script = Command::new("bash");
        script.args(["-c", "sleep 300 & echo $!; wait"]);
        let ended = run_group(&mut script, &log, Duration::from_millis(500)).unwrap();
        assert!(matches!(ended, Ended::TimedOut));
        let pid = std::fs::read_to_string(&log).unwrap();
        assert!(!alive(pid.trim()));
        std::fs::remove_file(log).unwrap();
    }
}
