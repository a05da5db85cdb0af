//! The hub: `tmc start` as a child process, and the people who use it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use http::Method;
use serde_json::Value;

use super::http::Api;
use super::kubectl::Kubectl;
use super::ports;
use super::process::{self, Output, Server, until_served};
use super::scratch::Scratch;
use super::wait::{seconds, until};

/// The program under test.
pub(crate) fn tmc() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tmc"));
    command.env_remove("KUBECONFIG").env_remove("TMC_LOG");
    command
}

/// A running hub.
pub(crate) struct Hub {
    directory: Scratch,
    port: u16,
    /// The URL that it gives to agents, if not its own address.
    external: Option<String>,
    /// Kubeconfigs of the clusters of `tmc quickstart`; without any it is `tmc start`.
    members: Vec<PathBuf>,
    server: Option<Server>,
}

/// The hub that tests share, each in its own workspaces.
pub(crate) fn shared() -> &'static Hub {
    static HUB: OnceLock<Result<Hub, String>> = OnceLock::new();
    match HUB.get_or_init(Hub::try_start) {
        Ok(hub) => hub,
        Err(why) => panic!("no hub: {why}"),
    }
}

impl Hub {
    /// Starts one with a new data directory.
    pub(crate) fn start() -> Self {
        Self::try_start().unwrap_or_else(|why| panic!("no hub: {why}"))
    }

    /// Starts one that calls itself by another URL than where it is reached here.
    pub(crate) fn start_as(external: &str) -> Self {
        let mut hub = Self::new();
        hub.external = Some(external.to_owned());
        hub.launch().unwrap_or_else(|why| panic!("no hub: {why}"));
        hub
    }

    /// Starts one with `tmc quickstart` on clusters; its samples may not be there yet.
    pub(crate) fn quickstart(members: &[PathBuf]) -> Self {
        let mut hub = Self::new();
        hub.members = members.to_vec();
        hub.launch().unwrap_or_else(|why| panic!("no hub: {why}"));
        hub
    }

    fn try_start() -> Result<Self, String> {
        let mut hub = Self::new();
        hub.launch()?;
        Ok(hub)
    }

    fn new() -> Self {
        Self {
            directory: Scratch::new("hub"),
            port: ports::free(),
            external: None,
            members: Vec::new(),
            server: None,
        }
    }

    /// Starts it again on its data directory and port, after [`Hub::kill`] or [`Hub::stop`].
    pub(crate) fn restart(&mut self) {
        assert!(self.server.is_none(), "it is still running");
        self.launch()
            .unwrap_or_else(|why| panic!("the hub does not start again: {why}"));
    }

    fn launch(&mut self) -> Result<(), String> {
        // The certificate in an old one may be another.
        let _ = std::fs::remove_file(self.kubeconfig_file());
        let mut command = self.start_command();
        let mut server = [Server::start(
            "the hub",
            &mut command,
            &self.directory.join("log"),
        )];
        until_served(&mut server, seconds(30), || {
            let written = self.data_directory().join("admin.kubeconfig");
            let mut text = std::fs::read_to_string(written).map_err(|e| e.to_string())?;
            if let Some(external) = &self.external {
                text = text.replace(external, &self.url());
                self.directory.write("local.kubeconfig", &text);
            }
            let answer = Api::from_kubeconfig(&text).try_send(&Method::GET, "/readyz", None)?;
            if answer.code == 200 {
                Ok(())
            } else {
                Err(answer.to_string())
            }
        })?;
        let [server] = server;
        self.server = Some(server);
        Ok(())
    }

    /// `tmc start` or `tmc quickstart` on its data directory and port.
    pub(crate) fn start_command(&self) -> Command {
        let mut command = tmc();
        match &*self.members {
            [] => {
                command.arg("start");
            }
            members => {
                command.arg("quickstart");
                for member in members {
                    command.arg("--member-kubeconfig").arg(member);
                }
            }
        }
        command
            .arg("--data-dir")
            .arg(self.data_directory())
            .args(["--listen", &format!("127.0.0.1:{}", self.port)]);
        if let Some(external) = &self.external {
            command.args(["--external-url", external]);
        }
        command
    }

    /// Its data directory.
    pub(crate) fn data_directory(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// A directory for files of tests.
    pub(crate) fn scratch(&self) -> &Scratch {
        &self.directory
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.server.take().expect("running").kill();
    }

    /// Stops it as Ctrl-C does; its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let mut server = self.server.take().expect("running");
        server.signal(rustix::process::Signal::INT);
        server.wait(seconds(20))
    }

    /// The end of its log, for messages.
    pub(crate) fn log_tail(&self) -> String {
        self.server
            .as_ref()
            .map(Server::log_tail)
            .unwrap_or_default()
    }

    /// `https://host:port`.
    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The administrator's kubeconfig, with the address at which the hub is reached here.
    pub(crate) fn kubeconfig_file(&self) -> PathBuf {
        match self.external {
            Some(_) => self.directory.join("local.kubeconfig"),
            None => self.data_directory().join("admin.kubeconfig"),
        }
    }

    /// What is in it.
    pub(crate) fn kubeconfig(&self) -> String {
        std::fs::read_to_string(self.kubeconfig_file()).expect("written before it was ready")
    }

    /// Requests as the administrator.
    pub(crate) fn api(&self) -> Api {
        Api::from_kubeconfig(&self.kubeconfig())
    }

    /// `tmc` as the administrator, acting in a workspace.
    pub(crate) fn tmc(&self, workspace: &str, args: &[&str]) -> Output {
        let mut command = tmc();
        command
            .env("HOME", self.directory.path())
            .arg("--kubeconfig")
            .arg(self.kubeconfig_file());
        command.args(["--workspace", workspace]).args(args);
        process::run(&mut command, b"", seconds(60))
    }

    /// kubectl as the administrator in a workspace.
    pub(crate) fn kubectl(&self, workspace: &str) -> Kubectl {
        self.kubectl_with(&self.kubeconfig_file(), workspace)
    }

    /// kubectl with another kubeconfig in a workspace.
    pub(crate) fn kubectl_with(&self, kubeconfig: &Path, workspace: &str) -> Kubectl {
        let server = format!("{}/clusters/{workspace}", self.url());
        Kubectl::new(kubeconfig, self.directory.path()).at(&server)
    }

    /// Makes the workspace `root:<name>` and waits until it can be used; its path.
    pub(crate) fn workspace(&self, name: &str) -> String {
        let api = self.api();
        let collection = "/clusters/root/apis/tenancy.kcp.io/v1alpha1/workspaces";
        let workspace = serde_json::json!({
            "apiVersion": "tenancy.kcp.io/v1alpha1", "kind": "Workspace",
            "metadata": {"name": name}, "spec": {},
        });
        api.post(collection, &workspace).expect(&[201]);
        until("the workspace is Ready", seconds(10), || {
            let answer = api.get(&format!("{collection}/{name}"));
            if answer.json()["status"]["phase"] == "Ready" {
                Ok(())
            } else {
                Err(answer.to_string())
            }
        });
        format!("root:{name}")
    }

    /// The name of the logical cluster behind a workspace's path.
    pub(crate) fn logical_cluster(&self, workspace: &str) -> String {
        let path =
            format!("/clusters/{workspace}/apis/core.kcp.io/v1alpha1/logicalclusters/cluster");
        let object = self.api().get(&path).expect(&[200]).json();
        object["metadata"]["annotations"]["kcp.io/cluster"]
            .as_str()
            .expect("every object tells its logical cluster")
            .to_owned()
    }

    /// A kubeconfig by `tmc workspace kubeconfig` for a user of a workspace: its file.
    pub(crate) fn user(&self, workspace: &str, user: &str) -> PathBuf {
        let text = self
            .tmc(
                "root",
                &["workspace", "kubeconfig", workspace, "--user", user],
            )
            .ok();
        let name = format!("{}-{user}.kubeconfig", workspace.replace(':', "-"));
        self.directory.write(&name, text)
    }

    /// Gives a user a role in a workspace.
    pub(crate) fn grant(&self, workspace: &str, user: &str, role: &str) {
        let mut command = tmc();
        command.arg("--kubeconfig").arg(self.kubeconfig_file());
        command.args([
            "workspace",
            "grant",
            workspace,
            "--user",
            user,
            "--role",
            role,
        ]);
        process::run(&mut command, b"", seconds(30)).ok();
    }
}

/// Status of a condition of an object.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|c| c["type"] == kind)
}

/// Waits until the syncers of all of these targets have said what they may do in their members, which
/// they do some seconds after they began.
pub(crate) fn until_authorized(targets: impl Fn() -> Value) {
    until("all syncers have their rights", seconds(60), || {
        let list = targets();
        let items = list["items"].as_array().ok_or("no list")?;
        items
            .iter()
            .try_for_each(|target| is_true(target, "SyncerAuthorized"))
    });
}

/// Nothing if a condition of an object is True, else how it is.
pub(crate) fn is_true(object: &Value, kind: &str) -> Result<(), String> {
    match condition(object, kind) {
        Some(condition) if condition["status"] == "True" => Ok(()),
        other => Err(format!("{kind} is {other:?} of {object}")),
    }
}
