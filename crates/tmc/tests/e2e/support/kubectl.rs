//! A stock kubectl against some server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::process::{self, Output, Server};
use super::real;
use super::wait::{seconds, until};

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

    /// Starts `get … --watch`, and waits until it has shown what there is.
    pub(crate) fn watch(&self, args: &[&str], log: &Path) -> Watched {
        let flags = ["--watch", "--output-watch-events", "-o", "json"];
        let mut command = self.command(&[&["get"], args, &flags].concat());
        let mut watched = Watched {
            log: log.to_owned(),
            server: Server::start("kubectl get --watch", &mut command, log),
        };
        until("kubectl shows what there is", LIMIT, || {
            match watched.events().len() {
                0 => Err(args.join(" ")),
                _ => Ok(()),
            }
        });
        watched
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

/// Everything that happens to what a kubectl watches: no state in between is missed.
pub(crate) struct Watched {
    log: PathBuf,
    server: Server,
}

impl Watched {
    /// The events so far, oldest first: type and object. Panics if it does not watch any more.
    #[track_caller]
    pub(crate) fn events(&mut self) -> Vec<(String, Value)> {
        if let Some(ended) = self.server.ended() {
            panic!("{ended}");
        }
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let mut events = Vec::new();
        for event in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
            match event {
                Ok(mut event) => {
                    let kind = event["type"].as_str().unwrap_or_default().to_owned();
                    events.push((kind, event["object"].take()));
                }
                // The last one may be half written.
                Err(error) if error.is_eof() => break,
                Err(error) => panic!("kubectl says something else ({error}): {text}"),
            }
        }
        events
    }
}
