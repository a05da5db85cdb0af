//! Real clusters: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, and kwok for a
//! node, as `cargo xtask testbin` builds them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::json;

use super::http::Api;
use super::kubectl::Kubectl;
use super::pki::{self, Authority, Pair};
use super::ports;
use super::process::{Server, until_served};
use super::scratch::Scratch;
use super::wait::seconds;

/// Where envtest and we look for the programs.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
const PROGRAMS: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
    "kwok",
    "kwok-stages.yaml",
];
/// Name of the one node.
pub(crate) const NODE: &str = "node-1";

fn assets() -> PathBuf {
    match std::env::var_os(ASSETS).filter(|given| !given.is_empty()) {
        Some(given) => given.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/testbin"),
    }
}

/// The path of a program.
pub(crate) fn program(name: &str) -> PathBuf {
    assets().join(name)
}

/// Whether the real programs are there. If not, and that is accepted, records that `test` was
/// skipped; otherwise panics.
pub(crate) fn available(test: &str) -> bool {
    let missing: Vec<&str> = PROGRAMS
        .into_iter()
        .filter(|name| !program(name).exists())
        .collect();
    if missing.is_empty() {
        return true;
    }
    assert!(
        std::env::var("TMC_TEST_SKIP_REAL").is_ok_and(|value| value == "1"),
        "{} lacks {}: run `cargo xtask testbin`, or name a directory with {ASSETS}",
        assets().display(),
        missing.join(", ")
    );
    if let Some(file) = std::env::var_os("TMC_TEST_SKIP_FILE") {
        use std::io::Write as _;
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(file)
            .expect("the file of $TMC_TEST_SKIP_FILE");
        file.write_all(format!("real\t{test}\n").as_bytes())
            .expect("one line in it");
    }
    false
}

/// Returns from the test, recorded as skipped, when there are no real programs.
macro_rules! needs_real_programs {
    () => {
        fn here() {}
        let name = std::any::type_name_of_val(&here).trim_end_matches("::here");
        if !$crate::support::real::available(name) {
            return;
        }
    };
}
pub(crate) use needs_real_programs;

/// The cluster that tests register as a member.
pub(crate) fn member() -> &'static Real {
    static MEMBER: OnceLock<Result<Real, String>> = OnceLock::new();
    shared(&MEMBER, "member")
}

/// Another one that tests register, or compare single objects with.
pub(crate) fn second() -> &'static Real {
    static SECOND: OnceLock<Result<Real, String>> = OnceLock::new();
    shared(&SECOND, "second")
}

/// The cluster with which the hub is compared as a whole: whatever else were in it would show up
/// there, so no other test may use it.
pub(crate) fn reference() -> &'static Real {
    static REFERENCE: OnceLock<Result<Real, String>> = OnceLock::new();
    shared(&REFERENCE, "reference")
}

/// A cluster that did not start is not tried again: the second test would wait as long as the first.
fn shared(cell: &'static OnceLock<Result<Real, String>>, role: &str) -> &'static Real {
    match cell.get_or_init(|| Real::start(role)) {
        Ok(real) => real,
        Err(why) => panic!("no real cluster in the role of {role}: {why}"),
    }
}

/// What runs workload in a cluster, and therefore not in one that is a hub.
const WORKLOAD_CONTROLLERS: [&str; 12] = [
    "deployment-controller",
    "replicaset-controller",
    "replicationcontroller-controller",
    "statefulset-controller",
    "daemonset-controller",
    "job-controller",
    "cronjob-controller",
    "endpoints-controller",
    "endpointslice-controller",
    "endpointslice-mirroring-controller",
    "persistentvolume-binder-controller",
    "horizontal-pod-autoscaler-controller",
];
const AUDIT_LOG: &str = "audit.log";
const AUDIT_POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
- level: None
"#;

/// A running cluster.
pub(crate) struct Real {
    directory: Scratch,
    kubeconfig: String,
    api: Api,
    kubectl: Kubectl,
    authority: Authority,
    server: String,
    programs: Vec<Program>,
    /// The running programs; ended with this value.
    servers: Vec<Server>,
}

/// A program and its arguments: started again with the same, it serves the same data.
struct Program {
    name: String,
    args: Vec<String>,
}

impl Program {
    fn start(&self, directory: &Scratch) -> Server {
        let log = directory.join(&format!("{}.log", self.name));
        let mut command = Command::new(program(&self.name));
        command.args(&self.args).current_dir(directory.path());
        Server::start(&self.name, &mut command, &log)
    }
}

/// How many programs the others need: etcd and the API server, which are started first.
const FIRST: usize = 2;

impl Real {
    /// Starts one and waits until its node can take pods.
    ///
    /// # Errors
    /// Which program ended, with the end of its log, or what was not there in time.
    pub(crate) fn start(role: &str) -> Result<Self, String> {
        let mut cluster = Starting::new(role);
        cluster.start_etcd();
        cluster.start_apiserver(&[]);
        let (kubeconfig, api) = cluster.until_ready()?;
        let node = node();
        until_served(&mut cluster.servers, seconds(10), || {
            match api.post("/api/v1/nodes", &node) {
                answer if answer.code == 201 => Ok(()),
                answer => Err(answer.to_string()),
            }
        })?;
        cluster.start_controller_manager(&[]);
        cluster.start_scheduler();
        cluster.start_kwok(&kubeconfig);
        until_served(&mut cluster.servers, seconds(60), || can_run_pods(&api))?;
        Ok(Self::running(cluster, kubeconfig, api))
    }

    /// Starts one that is a hub: no node, nothing that runs workload, and an audit log of writes.
    ///
    /// # Errors
    /// As [`Real::start`].
    pub(crate) fn start_hub(role: &str) -> Result<Self, String> {
        let mut cluster = Starting::new(role);
        let policy = cluster.directory.write("audit-policy.yaml", AUDIT_POLICY);
        let audit = [
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", cluster.file(AUDIT_LOG)),
        ];
        cluster.start_etcd();
        cluster.start_apiserver(&audit);
        let (kubeconfig, api) = cluster.until_ready()?;
        let off: Vec<String> = WORKLOAD_CONTROLLERS.map(|name| format!("-{name}")).into();
        cluster.start_controller_manager(&[format!("--controllers=*,{}", off.join(","))]);
        until_served(&mut cluster.servers, seconds(60), || has_accounts(&api))?;
        Ok(Self::running(cluster, kubeconfig, api))
    }

    fn running(cluster: Starting, kubeconfig: String, api: Api) -> Self {
        let file = cluster.directory.write("admin.kubeconfig", &kubeconfig);
        let kubectl = Kubectl::new(&file, cluster.directory.path());
        let server = cluster.server();
        let Starting {
            directory,
            programs,
            servers,
            authority,
            ..
        } = cluster;
        Self {
            directory,
            kubeconfig,
            api,
            kubectl,
            authority,
            server,
            programs,
            servers,
        }
    }

    /// Kills all its programs as `kill -9` does; its data stays.
    pub(crate) fn kill(&mut self) {
        // All at once, as a machine goes; then each is waited for.
        for server in &self.servers {
            server.signal(Signal::KILL);
        }
        self.servers.clear();
    }

    /// Starts it again on its data and addresses, after [`Real::kill`]; waits until it runs pods.
    pub(crate) fn restart(&mut self) {
        assert!(self.servers.is_empty(), "it is still running");
        let (first, others) = self.programs.split_at(FIRST);
        let (directory, api) = (&self.directory, &self.api);
        let start = |program: &Program| program.start(directory);
        self.servers.extend(first.iter().map(start));
        until_served(&mut self.servers, seconds(120), || is_served(api))
            .unwrap_or_else(|why| panic!("it does not serve again: {why}"));
        self.servers.extend(others.iter().map(start));
        until_served(&mut self.servers, seconds(120), || can_run_pods(api))
            .unwrap_or_else(|why| panic!("it does not run pods again: {why}"));
    }

    /// If one of its programs has ended: which and how.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.servers.iter_mut().find_map(Server::ended)
    }

    /// The writes that it has answered so far, oldest first: audit events of a hub.
    pub(crate) fn writes(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.directory.join(AUDIT_LOG)).unwrap_or_default();
        // The last line may be half written.
        let lines = text.lines();
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The administrator's kubeconfig: inline CA, client certificate and key.
    pub(crate) fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// A file with it.
    pub(crate) fn kubeconfig_file(&self) -> PathBuf {
        self.directory.join("admin.kubeconfig")
    }

    /// A kubeconfig for a user without any right: its file.
    pub(crate) fn user(&self, name: &str) -> PathBuf {
        self.user_in(name, &[])
    }

    /// A kubeconfig for a user in groups: its file.
    pub(crate) fn user_in(&self, name: &str, groups: &[&str]) -> PathBuf {
        let text = kubeconfig(&self.server, &self.authority, name, groups);
        self.directory.write(&format!("{name}.kubeconfig"), text)
    }

    /// A kubeconfig for whoever has a token.
    pub(crate) fn kubeconfig_with_token(&self, token: &str) -> String {
        let ca = self.authority.pair.certificate.as_bytes();
        tmc_api::agent::kubeconfig::with_token(&self.server, ca, token).to_string()
    }

    /// A directory for files of tests.
    pub(crate) fn scratch(&self) -> &Scratch {
        &self.directory
    }

    /// Requests as its administrator.
    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    /// kubectl as its administrator.
    pub(crate) fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }
}

/// A kubeconfig for a user with groups, everything inline.
fn kubeconfig(server: &str, authority: &Authority, user: &str, groups: &[&str]) -> String {
    let Pair { certificate, key } = authority.client(user, groups);
    let document = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "real",
        "clusters": [{"name": "real", "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(&authority.pair.certificate),
        }}],
        "contexts": [{"name": "real", "context": {"cluster": "real", "user": user}}],
        "users": [{"name": user, "user": {
            "client-certificate-data": STANDARD.encode(certificate),
            "client-key-data": STANDARD.encode(key),
        }}],
    });
    format!("{document:#}\n")
}

/// A node as kwok takes it for one of its own.
fn node() -> serde_json::Value {
    let size = json!({"cpu": "64", "memory": "256Gi", "pods": "1000"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": NODE,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux"},
        },
        "status": {"capacity": size, "allocatable": size},
    })
}

/// Whether the API server is ready.
fn is_served(api: &Api) -> Result<(), String> {
    let answer = api.try_send(&http::Method::GET, "/readyz", None)?;
    if answer.code == 200 {
        Ok(())
    } else {
        Err(answer.to_string())
    }
}

/// Whether namespaces get a service account.
fn has_accounts(api: &Api) -> Result<(), String> {
    let account = api.try_send(
        &http::Method::GET,
        "/api/v1/namespaces/default/serviceaccounts/default",
        None,
    )?;
    if account.code == 200 {
        Ok(())
    } else {
        Err(account.to_string())
    }
}

/// Whether the node is ready and untainted, and pods get a service account.
fn can_run_pods(api: &Api) -> Result<(), String> {
    has_accounts(api)?;
    let node = api.try_send(&http::Method::GET, &format!("/api/v1/nodes/{NODE}"), None)?;
    let object = node.json();
    let conditions = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let ready = conditions
        .iter()
        .any(|c| c["type"] == "Ready" && c["status"] == "True");
    let tainted = object["spec"]["taints"]
        .as_array()
        .is_some_and(|list| !list.is_empty());
    if ready && !tainted {
        Ok(())
    } else {
        Err(format!("the node is not ready: {node}"))
    }
}

/// A cluster on its way.
struct Starting {
    directory: Scratch,
    authority: Authority,
    etcd: u16,
    secure: u16,
    programs: Vec<Program>,
    servers: Vec<Server>,
}

impl Starting {
    fn new(role: &str) -> Self {
        let directory = Scratch::new(role);
        let authority = Authority::new();
        directory.write("ca.crt", &authority.pair.certificate);
        directory.write("ca.key", &authority.pair.key);
        let (private, public) = pki::signing_key();
        directory.write("sa.key", private);
        directory.write("sa.pub", public);
        Self {
            directory,
            authority,
            etcd: ports::free(),
            secure: ports::free(),
            programs: Vec::new(),
            servers: Vec::new(),
        }
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn start(&mut self, name: &str, args: &[String]) {
        let program = Program {
            name: name.to_owned(),
            args: args.to_vec(),
        };
        self.servers.push(program.start(&self.directory));
        self.programs.push(program);
    }

    fn start_etcd(&mut self) {
        let client = format!("http://127.0.0.1:{}", self.etcd);
        let peer = format!("http://127.0.0.1:{}", ports::free());
        let args = [
            "--name=default".to_owned(),
            format!("--data-dir={}", self.file("etcd")),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            // Nothing here is to survive a power failure.
            "--unsafe-no-fsync".to_owned(),
        ];
        self.start("etcd", &args);
    }

    /// Waits for the API server; its administrator.
    fn until_ready(&mut self) -> Result<(String, Api), String> {
        let kubeconfig = self.kubeconfig("admin", &["system:masters"]);
        let api = Api::from_kubeconfig(&kubeconfig);
        until_served(&mut self.servers, seconds(60), || is_served(&api))?;
        Ok((kubeconfig, api))
    }

    fn start_apiserver(&mut self, more: &[String]) {
        let Pair { certificate, key } = self.authority.server();
        self.directory.write("server.crt", certificate);
        self.directory.write("server.key", key);
        let mut args = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.secure),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--cert-dir={}", self.file("apiserver")),
            format!("--tls-cert-file={}", self.file("server.crt")),
            format!("--tls-private-key-file={}", self.file("server.key")),
            format!("--client-ca-file={}", self.file("ca.crt")),
            "--authorization-mode=RBAC".to_owned(),
            format!("--service-account-issuer=https://127.0.0.1:{}", self.secure),
            format!("--service-account-key-file={}", self.file("sa.pub")),
            format!("--service-account-signing-key-file={}", self.file("sa.key")),
            "--service-cluster-ip-range=10.0.0.0/16".to_owned(),
        ];
        args.extend_from_slice(more);
        self.start("kube-apiserver", &args);
    }

    /// `https://host:port`.
    fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.secure)
    }

    fn kubeconfig(&self, user: &str, groups: &[&str]) -> String {
        kubeconfig(&self.server(), &self.authority, user, groups)
    }

    /// Flags of a program that serves its health with certificates and works through a kubeconfig.
    fn component(&self, user: &str) -> Vec<String> {
        let file = format!("{user}.kubeconfig");
        let text = self.kubeconfig(&format!("system:{user}"), &[]);
        let path = self.directory.write(&file, text).display().to_string();
        vec![
            format!("--kubeconfig={path}"),
            format!("--authentication-kubeconfig={path}"),
            format!("--authorization-kubeconfig={path}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", ports::free()),
            format!("--cert-dir={}", self.file(user)),
            "--leader-elect=false".to_owned(),
            // The default of 20 requests a second would make a burst of tests wait.
            "--kube-api-qps=200".to_owned(),
            "--kube-api-burst=400".to_owned(),
        ]
    }

    fn start_controller_manager(&mut self, more: &[String]) {
        let mut args = self.component("kube-controller-manager");
        args.extend([
            format!("--root-ca-file={}", self.file("ca.crt")),
            format!("--service-account-private-key-file={}", self.file("sa.key")),
            "--use-service-account-credentials=true".to_owned(),
            format!("--cluster-signing-cert-file={}", self.file("ca.crt")),
            format!("--cluster-signing-key-file={}", self.file("ca.key")),
            // Else the first look at a new autoscaler takes up to 15 s.
            "--horizontal-pod-autoscaler-sync-period=1s".to_owned(),
        ]);
        args.extend_from_slice(more);
        self.start("kube-controller-manager", &args);
    }

    fn start_scheduler(&mut self) {
        let args = self.component("kube-scheduler");
        self.start("kube-scheduler", &args);
    }

    fn start_kwok(&mut self, kubeconfig: &str) {
        let file = self.directory.write("kwok.kubeconfig", kubeconfig);
        let args = [
            format!("--kubeconfig={}", file.display()),
            format!("--config={}", program("kwok-stages.yaml").display()),
            "--manage-all-nodes=true".to_owned(),
            "--node-lease-duration-seconds=40".to_owned(),
            "--cidr=10.244.0.0/16".to_owned(),
            "--node-ip=127.0.0.1".to_owned(),
            format!("--server-address=127.0.0.1:{}", ports::free()),
        ];
        self.start("kwok", &args);
    }
}
