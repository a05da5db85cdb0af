//! A stock kubectl against some server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::process::{self, Output};
use super::real;
use super::wait::seconds;

/// No command of a test takes longer.
const LIMIT: Duration = seconds(60);

/// kubectl with a kubeconfig, in a home directory of its own so that nothing cached for another
/// server of the same address is believed.
#[derive(Clone, Debug)]
pub(crate) struct Kubectl {
    kubeconfig: PathBuf,
    server: Option<String>,
    home: PathBuf,
    directory: Option<PathBuf>,
    environment: Vec<(String, String)>,
}

impl Kubectl {
    /// kubectl with a kubeconfig.
    pub(crate) fn new(kubeconfig: &Path, home: &Path) -> Self {
        Self {
            kubeconfig: kubeconfig.to_owned(),
            server: None,
            home: home.to_owned(),
            directory: None,
            environment: Vec::new(),
        }
    }

    /// The same with `--server`.
    pub(crate) fn at(&self, server: &str) -> Self {
        Self {
            server: Some(server.to_owned()),
            ..self.clone()
        }
    }

    /// The same in a working directory.
    pub(crate) fn in_directory(&self, directory: &Path) -> Self {
        Self {
            directory: Some(directory.to_owned()),
            ..self.clone()
        }
    }

    /// The same with a variable in its environment.
    pub(crate) fn with_env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The command, not started yet.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(real::program("kubectl"));
        command
            .env("HOME", &self.home)
            .env("KUBECONFIG", &self.kubeconfig)
            .env_remove("KUBECTL_EXTERNAL_DIFF")
            .env_remove("KUBERC")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        if let Some(server) = &self.server {
            command.args(["--server", server]);
        }
        command.args(args);
        command
    }

    /// Runs it.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        process::run(&mut self.command(args), b"", LIMIT)
    }

    /// Runs it with input.
    pub(crate) fn feed(&self, args: &[&str], input: &str) -> Output {
        process::run(&mut self.command(args), input.as_bytes(), LIMIT)
    }

    /// Runs it; its standard output. Panics unless it exits with 0.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        self.run(args).ok()
    }

    /// Runs it with `-o json`; panics unless it exits with 0.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        self.run(&[args, &["-o", "json"]].concat()).json()
    }

    /// `kubectl apply` of a manifest; panics unless it exits with 0.
    #[track_caller]
    pub(crate) fn apply(&self, manifest: &str) -> String {
        self.feed(&["apply", "-f", "-"], manifest).ok()
    }
}
