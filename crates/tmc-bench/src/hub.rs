//! The hub as a process of its own, so that what it takes is its own.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tempfile::TempDir;
use tmc::context::Context;
use tmc_runtime::client::{ListParams, get_path};
use tmc_runtime::{Connection, Endpoint, SystemDialer};

use crate::process::{self, Memory, Process, until_ready};

/// A hub on redb in a directory of its own; killed when dropped.
pub(crate) struct OwnHub {
    process: Process,
    /// How long it took until ready.
    pub(crate) started_in: Duration,
    /// How its administrator reaches it.
    pub(crate) endpoint: Endpoint,
    connection: Connection,
    // Last, so that the files outlive what uses them.
    directory: TempDir,
}

impl OwnHub {
    /// Starts one on an empty directory and waits until it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready after a minute.
    pub(crate) async fn start() -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("tmc-bench-hub-")
            .tempdir()?;
        let data = directory.path().join("data");
        let port = process::free_port()?;
        let mut command = process::own("hub")?;
        command
            .arg("--data-dir")
            .arg(&data)
            .args(["--store", "redb"]);
        command.arg("--listen").arg(format!("127.0.0.1:{port}"));
        let start = Instant::now();
        let mut hub = [Process::start(
            "the hub",
            &mut command,
            directory.path().join("log"),
        )?];
        until_ready(port, &data.join("ca.crt"), &mut hub).await?;
        let started_in = start.elapsed();
        let [process] = hub;
        // It is written when the hub is ready, not before.
        let file = data.join("admin.kubeconfig");
        let kubeconfig = tmc::context::wait_for(10, || async {
            Ok(tmc::kubeconfig::load("the hub's", &file).map_err(|error| error.to_string()))
        })
        .await?;
        let endpoint = Endpoint::from_kubeconfig(&kubeconfig, None)?;
        Ok(Self {
            process,
            started_in,
            connection: Connection::https(&endpoint, std::sync::Arc::new(SystemDialer))?,
            endpoint,
            directory,
        })
    }

    /// Its administrator in a workspace.
    pub(crate) fn context(&self, workspace: &str) -> Context {
        Context {
            connection: self.connection.clone(),
            file: self.directory.path().join("data/admin.kubeconfig"),
            workspace: workspace.to_owned(),
            workspaces: true,
        }
    }

    /// The memory that it takes now.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn memory(&mut self) -> Result<Memory> {
        self.process.memory()
    }

    /// The time that processors have spent on it so far.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn processor_time(&mut self) -> Result<Duration> {
        self.process.processor_time()
    }

    /// How many changes it has made durable since it was first started: the store gives each one the
    /// next revision.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn revision(&self) -> Result<u64> {
        let namespaces = self.context("root").resource("", "v1", "namespaces");
        let first = ListParams {
            limit: 1,
            ..ListParams::default()
        };
        let list = namespaces.list("", &first).await?;
        let version = list.pointer("/metadata/resourceVersion");
        let version = version
            .and_then(Value::as_str)
            .context("a list without a version")?;
        Ok(version.parse()?)
    }

    /// What it measures of itself, as text of the exposition format.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn metrics(&self) -> Result<String> {
        let bytes = get_path(&self.connection.client(""), "/metrics").await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
