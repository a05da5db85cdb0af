//! The commands on a bare Kubernetes hub, where no object tells its logical cluster.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{SOON, downstream_namespace};
use crate::commands::transcript::Transcript;
use crate::support::hub::{is_true, tmc, until_authorized};
use crate::support::ports;
use crate::support::process::Server;
use crate::support::real::{self, Real, needs_real_programs};
use crate::support::replica::Replica;
use crate::support::wait::{seconds, until};

const SHOP: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: shop}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: nginx}]
"#;

#[test]
fn every_command_works_on_a_bare_kubernetes_hub() {
    needs_real_programs!();
    let hub = Real::start_hub("bare-commands").unwrap_or_else(|why| panic!("no hub: {why}"));
    let _replica = Replica::start(&hub, "tmc-a");
    let mut said = Transcript::on_bare(&hub);
    clusters_are_registered(&hub, &mut said);
    let mut agent = an_agent_starts_as_the_hub_says(&hub, real::second());
    clusters_are_shown_and_cordoned(&hub, &mut said);
    workload_is_explained_and_drained(&hub, &mut said);
    said.comment("All is well.");
    said.run(&["doctor"]);
    what_a_lost_cluster_holds_up_is_found(&hub, &mut said, &mut agent);
    nothing_that_was_added_is_in_objects(&hub);
    clusters_are_unregistered(&hub, &mut said);
    said.compare("bare-hub-commands");
}

fn clusters_are_registered(hub: &Real, said: &mut Transcript<'_>) {
    let east = real::member().kubeconfig_file().display().to_string();
    said.comment("What is registered is in the one workspace that there is.");
    said.run(&["cluster", "register", "east", "--member-kubeconfig", &east]);
    said.run(&["cluster", "register", "edge", "--mode", "External"]);
    said.comment("Its views are on this machine only.");
    said.run(&["sync", "edge"]);
    said.run(&["sync", "east"]);
    said.run(&["workspace", "tree"]);
    said.run(&["--workspace", "root:team", "get", "targets"]);
    until("east is Ready, and its nodes are known", SOON, || {
        let path = "/apis/workload.kcp.io/v1alpha1/namespaces/default/clusters/east";
        let east = hub.api().get(path).json();
        if east["status"]["resourceSummary"]["nodes"]["ready"] != 1 {
            return Err(east.to_string());
        }
        is_true(&east, "Ready")
    });
}

fn edge(hub: &Real) -> Value {
    hub.kubectl().json(&["get", "synctarget", "edge"])
}

/// `tmc syncer` as `cluster register --mode External` prints it: with the administrator's kubeconfig.
fn an_agent_starts_as_the_hub_says(hub: &Real, member: &Real) -> Server {
    // So that its loss is noticed soon.
    let beats = r#"{"spec": {"syncerConfig": {"heartbeatInterval": "4s"}}}"#;
    hub.kubectl()
        .ok(&["patch", "synctarget", "edge", "--type=merge", "-p", beats]);
    agent_of_edge(hub, &hub.kubeconfig_file(), member)
}

/// Starts the agent of `edge` and waits until it is heard and has looked at its member.
fn agent_of_edge(hub: &Real, to_hub: &Path, member: &Real) -> Server {
    let target = edge(hub);
    let uid = target["metadata"]["uid"].as_str().expect("a uid");
    let mut command = tmc();
    command.arg("syncer").arg("--from-kubeconfig").arg(to_hub);
    command.arg("--to-kubeconfig").arg(member.kubeconfig_file());
    command.args(["--sync-target-name", "edge", "--sync-target-uid", uid]);
    let log = hub.scratch().join("edge.log");
    let mut agent = Server::start("tmc syncer", &mut command, &log);
    until("edge is Ready, and its kinds are known", SOON, || {
        if let Some(ended) = agent.ended() {
            panic!("{ended}");
        }
        let target = edge(hub);
        let synced = target["status"]["syncedResources"].as_array();
        let known = synced.is_some_and(|all| all.iter().all(|one| one["state"] == "Accepted"));
        if !known {
            return Err(target.to_string());
        }
        is_true(&target, "Ready")
    });
    agent
}

fn clusters_are_shown_and_cordoned(hub: &Real, said: &mut Transcript<'_>) {
    said.comment("What there is.");
    said.run(&["cluster", "list"]);
    said.run(&["cluster", "list", "-o", "name"]);
    until_authorized(|| hub.kubectl().json(&["get", "synctargets"]));
    said.run(&["cluster", "describe", "east"]);
    said.run(&["cluster", "describe", "north"]);
    said.run(&["cordon", "edge"]);
    said.run(&["cordon", "north"]);
    said.run(&["get", "targets"]);
    assert_eq!(edge(hub)["spec"]["unschedulable"], true);
}

fn workload_is_explained_and_drained(hub: &Real, said: &mut Transcript<'_>) {
    let kubectl = hub.kubectl();
    kubectl.apply(SHOP);
    said.comment("A Deployment before there is a place for it, then with one.");
    said.run(&["explain", "deployment/web", "-n", "shop"]);
    said.run(&["bind", "compute", "compute"]);
    said.run(&["bind", "compute", "--namespace-selector", "team=shop"]);
    until_available(hub);
    said.run(&["get", "placements"]);
    let explained = said.run(&["explain", "deployment/web", "-n", "shop"]);
    let namespace = downstream_namespace(real::member(), &name_of_east(hub), "shop");
    let namespace = namespace.expect("the namespace of the member");
    assert!(
        explained
            .stdout
            .contains(&format!("in namespace {namespace} ")),
        "{explained}"
    );
    said.run(&["explain", "deployment/elsewhere", "-n", "shop"]);
    said.comment("The only cluster that is not cordoned keeps it, another one takes over.");
    said.run(&["drain", "east", "--timeout", "3"]);
    said.run(&["uncordon", "edge"]);
    said.run(&["drain", "east"]);
    until_available(hub);
    said.run(&["uncordon", "east"]);
}

fn until_available(hub: &Real) {
    until("the Deployment is Available on the hub", SOON, || {
        let get = ["-n", "shop", "get", "deployment", "web"];
        is_true(&hub.kubectl().json(&get), "Available")
    });
}

/// Name of the SyncTarget of the Cluster `east`.
fn name_of_east(hub: &Real) -> String {
    let east = hub
        .kubectl()
        .json(&["get", "clusters.workload.kcp.io", "east"]);
    let name = east["status"]["syncTargetRef"]["name"].as_str();
    name.expect("a SyncTarget").to_owned()
}

/// The Deployment is in the cluster of the agent, which dies; then the Deployment is deleted.
fn what_a_lost_cluster_holds_up_is_found(
    hub: &Real,
    said: &mut Transcript<'_>,
    agent: &mut Server,
) {
    agent.kill();
    let delete = ["delete", "deployment", "web", "--wait=false"];
    hub.kubectl().ok(&[&["-n", "shop"], &delete[..]].concat());
    until("edge is lost", SOON, || {
        match is_true(&edge(hub), "Ready") {
            Ok(()) => Err("it is Ready".to_owned()),
            Err(_) => Ok(()),
        }
    });
    said.comment("A lost cluster holds up a deletion.");
    said.run(&["doctor"]);
    said.run(&["explain", "deployment/web", "-n", "shop"]);
}

fn clusters_are_unregistered(hub: &Real, said: &mut Transcript<'_>) {
    let left = downstream_namespace(real::second(), "edge", "shop");
    said.comment("It is given up: what it held up goes on.");
    said.run(&["cluster", "unregister", "edge", "--force"]);
    hub.kubectl()
        .ok(&["delete", "namespace", "shop", "--timeout=60s"]);
    said.run(&["cluster", "unregister", "east"]);
    said.run(&["cluster", "unregister", "east"]);
    said.run(&["cluster", "list"]);
    // Nobody else will: other tests use this cluster, too.
    let left = left.expect("the copies stay behind");
    let remove = ["delete", "namespace", &left, "--wait=false"];
    real::second().kubectl().ok(&remove);
}

/// What commands add to what they read has not come back.
fn nothing_that_was_added_is_in_objects(hub: &Real) {
    let kinds =
        "namespaces,synctargets,clusters.workload.kcp.io,locations,placements.scheduling.kcp.io";
    let all = hub.kubectl().json(&["get", kinds, "--all-namespaces"]);
    assert!(!all.to_string().contains("\"kcp.io/cluster\":"), "{all:#}");
}

#[test]
fn a_syncer_is_rendered_that_reaches_the_views_of_a_bare_kubernetes_hub() {
    needs_real_programs!();
    let hub = Real::start_hub("bare-sync").unwrap_or_else(|why| panic!("no hub: {why}"));
    let port = ports::free();
    let [elsewhere, here] =
        ["views.example.org", "127.0.0.1"].map(|host| format!("https://{host}:{port}"));
    let _replica = controllers(&hub, port, &elsewhere);
    let file = hub.scratch().join("syncer.yaml");
    let path = file.display().to_string();
    let mut said = Transcript::on_bare(&hub);
    said.run(&["cluster", "register", "edge", "--mode", "External"]);
    said.run(&["sync", "edge", "-o", &path]);
    said.run(&["sync", "nowhere"]);
    said.compare("bare-hub-sync");
    // Nothing runs its image here: this process stands for it, with the hub's kubeconfig of the YAML.
    let to_hub = hub_kubeconfig(&std::fs::read_to_string(&file).expect("written"));
    assert!(
        to_hub.contains(&format!("{elsewhere}/clusters/root")),
        "{to_hub}"
    );
    let to_hub = to_hub.replace(&elsewhere, &here);
    let to_hub = hub.scratch().write("hub.kubeconfig", to_hub);
    let _agent = agent_of_edge(&hub, &to_hub, real::second());
}

/// `tmc controllers` whose views have a URL that leads nowhere from here.
fn controllers(hub: &Real, port: u16, url: &str) -> Server {
    let mut command = tmc();
    command.args(["controllers", "--hub", "kubernetes", "--install-crds"]);
    command.arg("--hub-kubeconfig").arg(hub.kubeconfig_file());
    command.args(["--serve-virtual-workspaces", &format!("127.0.0.1:{port}")]);
    command.args(["--virtual-workspace-url", url]);
    let log = hub.scratch().join("controllers.log");
    let mut server = Server::start("tmc controllers", &mut command, &log);
    until("the controllers are ready", seconds(90), || {
        if let Some(ended) = server.ended() {
            panic!("{ended}");
        }
        match server.log_tail() {
            log if log.contains("tmc controllers are ready") => Ok(()),
            log => Err(log),
        }
    });
    server
}

/// The kubeconfig of the hub in the Secret of a rendered syncer.
fn hub_kubeconfig(yaml: &str) -> String {
    let mut documents = yaml.split("---\n");
    let secret = documents.find(|document| document.contains("kind: Secret\n"));
    let secret: Value = serde_saphyr::from_str(secret.expect("a Secret")).expect("YAML");
    let data = secret["data"]["hub.kubeconfig"].as_str();
    let bytes = STANDARD
        .decode(data.expect("a kubeconfig"))
        .expect("base64");
    String::from_utf8(bytes).expect("text")
}
