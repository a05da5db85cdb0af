//! What was typed and what was printed, as a stranger would see it, without what differs between
//! runs: times, ports, uids, hashes, directories.

use std::sync::LazyLock;

use regex::Regex;

use crate::support::hub::{Hub, tmc};
use crate::support::process::{self, Output};
use crate::support::real::Real;
use crate::support::wait::seconds;

/// The hub of a session.
#[derive(Clone, Copy)]
enum To<'a> {
    Hub(&'a Hub),
    /// A Kubernetes API server, which has no workspaces.
    Bare(&'a Real),
}

impl To<'_> {
    fn tmc(self, workspace: &str, args: &[&str]) -> Output {
        match self {
            Self::Hub(hub) => hub.tmc(workspace, args),
            Self::Bare(hub) => {
                let mut command = tmc();
                command.env("HOME", hub.scratch().path());
                command.arg("--kubeconfig").arg(hub.kubeconfig_file());
                process::run(command.args(args), b"", seconds(60))
            }
        }
    }
}

/// A session in a terminal.
pub(crate) struct Transcript<'a> {
    to: To<'a>,
    /// Empty on a hub that has none.
    workspace: String,
    text: String,
    names: Vec<(String, String)>,
}

impl<'a> Transcript<'a> {
    /// A session in a workspace, as the administrator.
    pub(crate) fn new(hub: &'a Hub, workspace: &str) -> Self {
        Self::with(To::Hub(hub), workspace)
    }

    /// A session on a bare Kubernetes hub, as its administrator.
    pub(crate) fn on_bare(hub: &'a Real) -> Self {
        Self::with(To::Bare(hub), "")
    }

    fn with(to: To<'a>, workspace: &str) -> Self {
        Self {
            to,
            workspace: workspace.to_owned(),
            text: String::new(),
            names: Vec::new(),
        }
    }

    /// A line for whoever reads it.
    pub(crate) fn comment(&mut self, text: &str) {
        self.text.push_str(&format!("# {text}\n\n"));
    }

    /// This name, which may differ from run to run, is written as another, also where it is already.
    pub(crate) fn name(&mut self, name: &str, shown: &str) {
        self.names.push((name.to_owned(), shown.to_owned()));
    }

    /// Runs `tmc` in the session's workspace.
    pub(crate) fn run(&mut self, args: &[&str]) -> Output {
        let workspace = self.workspace.clone();
        self.run_in(&workspace, args)
    }

    /// Runs `tmc` in another workspace.
    pub(crate) fn run_in(&mut self, workspace: &str, args: &[&str]) -> Output {
        let output = self.to.tmc(workspace, args);
        assert!(!output.timed_out, "{output}");
        let prompt = format!("{workspace} $ tmc {}\n", args.join(" "));
        let mut text = prompt.trim_start().to_owned();
        // Which of the steps in between are seen depends on how fast they are.
        let passing = |line: &&str| PASSING.iter().any(|start| line.starts_with(start));
        for line in output.stderr.lines().filter(|line| !passing(line)) {
            text.push_str(&format!("stderr: {line}\n"));
        }
        text.push_str(&output.stdout);
        if output.code != Some(0) {
            text.push_str(&format!("exit code {}\n", output.code.unwrap_or(-1)));
        }
        text.push('\n');
        self.text.push_str(&Self::redacted(&text));
        output
    }

    /// Another program's command and what it printed.
    pub(crate) fn output(&mut self, command: &str, printed: &str) {
        let text = format!("$ {command}\n{printed}\n");
        self.text.push_str(&Self::redacted(&text));
    }

    /// Compares it with what is recorded under a name.
    pub(crate) fn compare(&self, name: &str) {
        insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true,
            snapshot_path => "../snapshots"}, {
            insta::assert_snapshot!(name, self.shown());
        });
    }

    fn redacted(text: &str) -> String {
        let mut text = text.to_owned();
        for (pattern, with) in PATTERNS.iter() {
            text = pattern.replace_all(&text, *with).into_owned();
        }
        text
    }

    /// All of it, with the names that may differ from run to run written as others.
    fn shown(&self) -> String {
        let mut text = self.text.clone();
        for (name, shown) in &self.names {
            let name = Regex::new(&format!(r"\b{}\b", regex::escape(name))).unwrap();
            text = name.replace_all(&text, shown).into_owned();
        }
        text
    }
}

/// Starts of lines that say what is waited for at the moment.
const PASSING: [&str; 2] = ["[drain] root", "[unregister] waiting:"];

static PATTERNS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    [
        (r"/[^ :\n]*/tmc-e2e-[-a-z]+-[A-Za-z0-9]+", "DIR"),
        (r"\b(127\.0\.0\.1|views\.example\.org):\d+", "$1:PORT"),
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UID"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
        (r"\bv1\.\d+\.\d+(\+[-.0-9A-Za-z]+)?", "VERSION"),
        (r"\b[0-9A-Za-z]{36,39}\b", "KEY"),
        (
            r"\b(east|west|edge|placement|kcp)-[0-9a-z]{8}([0-9a-z]{4})?\b",
            "$1-HASH",
        ),
        (r"\bin \d+ ms\b", "in MILLISECONDS"),
        (r"[<>]?\b\d+(y|d|h|m|s)(\d+(d|h|m|s))?\b", "AGE"),
        // How wide a column is depends on what is in it.
        (r" {3,}", "   "),
        (r" +\n", "\n"),
    ]
    .into_iter()
    .map(|(pattern, with)| (Regex::new(pattern).unwrap(), with))
    .collect()
});
