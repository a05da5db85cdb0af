//! A directory that goes when the test process goes, also when it is killed.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A temporary directory.
pub(crate) struct Scratch {
    directory: Option<tempfile::TempDir>,
    watchdog: Child,
}

impl Scratch {
    /// Makes one whose name starts with `tmc-e2e-` and `label`.
    pub(crate) fn new(label: &str) -> Self {
        let directory = tempfile::Builder::new()
            .prefix(&format!("tmc-e2e-{label}-"))
            .tempdir()
            .expect("a temporary directory");
        // Values of statics are never dropped: their directories would stay.
        let script =
            "read -r _; for try in 1 2 3 4 5; do rm -rf -- \"$1\" && exit; sleep 0.2; done";
        let watchdog = watchdog(script, directory.path().as_os_str());
        Self {
            directory: Some(directory),
            watchdog,
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.directory.as_ref().expect("there until dropped").path()
    }

    /// A path in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file in it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let file = self.join(name);
        std::fs::write(&file, content).expect("a file in a directory of our own");
        file
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.directory.take());
        dismiss(&mut self.watchdog);
    }
}

/// Starts a shell script that waits for the end of its input, which comes with the end of this
/// process, and then works on `argument`.
pub(crate) fn watchdog(script: &str, argument: &std::ffi::OsStr) -> Child {
    Command::new("sh")
        .args(["-c", script, "watchdog"])
        .arg(argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("a shell")
}

/// Ends a watchdog whose charge is gone.
pub(crate) fn dismiss(watchdog: &mut Child) {
    let _ = watchdog.kill();
    let _ = watchdog.wait();
}
