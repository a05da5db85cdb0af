//! The main job: plain Deployments of a workspace run in a real cluster, and their status comes
//! back; with the syncer inside the hub and as a process of its own.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::hub::{self, Hub, condition, is_true, tmc};
use crate::support::kubectl::Kubectl;
use crate::support::process::Server;
use crate::support::real::{self, Real, needs_real_programs};
use crate::support::wait::{seconds, until};

/// Nothing on the way between hub and member takes longer.
const SOON: std::time::Duration = seconds(20);

const APP: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {colour: blue}
---
apiVersion: v1
kind: Secret
metadata: {name: password, namespace: shop}
stringData: {word: swordfish}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
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
      containers:
      - name: web
        image: nginx:1.29
        envFrom: [{configMapRef: {name: settings}}]
        ports: [{containerPort: 8080}]
"#;

#[test]
fn plain_objects_of_a_workspace_run_in_a_registered_cluster_and_their_status_comes_back() {
    needs_real_programs!();
    let job = Job::new("hosted");
    job.hub
        .tmc(
            &job.workspace,
            &[
                "cluster",
                "register",
                "east",
                "--member-kubeconfig",
                job.member.kubeconfig_file().to_str().unwrap(),
                "--raw",
            ],
        )
        .ok();
    job.bind();
    job.run();
    let listed = job.hub.tmc(&job.workspace, &["cluster", "list"]).ok();
    assert!(listed.contains("east"), "{listed}");
}

#[test]
fn the_same_flow_works_with_the_syncer_as_a_process_of_its_own() {
    needs_real_programs!();
    let job = Job::new("external");
    job.user.apply(
        r#"
apiVersion: workload.kcp.io/v1alpha1
kind: SyncTarget
metadata: {name: edge}
spec: {syncerConfig: {mode: External}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: edge-syncer}
rules:
- apiGroups: [workload.kcp.io]
  resources: [synctargets]
  resourceNames: [edge]
  verbs: [get, sync]
- nonResourceURLs: [/]
  verbs: [access]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: edge-syncer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edge-syncer}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: edge-agent}]
"#,
    );
    let credential = job.hub.user(&job.workspace, "edge-agent");
    let uid = job.user.json(&["get", "synctarget", "edge"])["metadata"]["uid"].clone();
    let mut command: Command = tmc();
    command
        .arg("syncer")
        .arg("--from-kubeconfig")
        .arg(&credential);
    command
        .arg("--to-kubeconfig")
        .arg(job.member.kubeconfig_file());
    command.args([
        "--sync-target-name",
        "edge",
        "--sync-target-uid",
        uid.as_str().unwrap(),
    ]);
    let log = job.hub.scratch().join("syncer.log");
    let mut syncer = Server::start("tmc syncer", &mut command, &log);
    until("the SyncTarget is Ready", SOON, || {
        if let Some(ended) = syncer.ended() {
            panic!("{ended}");
        }
        is_true(&job.user.json(&["get", "synctarget", "edge"]), "Ready")
    });
    job.bind();
    job.run();
    assert_eq!(syncer.ended(), None);
    syncer.signal(rustix::process::Signal::TERM);
    assert_eq!(syncer.wait(SOON), Some(0), "{}", syncer.log_tail());
}

/// A workspace whose objects are to run in the member.
struct Job {
    hub: &'static Hub,
    member: &'static Real,
    workspace: String,
    cluster: String,
    /// kubectl in the workspace.
    user: Kubectl,
    /// kubectl in the member.
    below: Kubectl,
}

impl Job {
    /// Makes the workspace with stock kubectl.
    fn new(name: &str) -> Self {
        let hub = hub::shared();
        let member = real::member();
        let root = hub.kubectl("root");
        root.apply(&format!(
            "{{apiVersion: tenancy.kcp.io/v1alpha1, kind: Workspace, metadata: {{name: {name}}}}}"
        ));
        let ready = "--for=jsonpath={.status.phase}=Ready";
        root.ok(&["wait", ready, &format!("workspace/{name}"), "--timeout=10s"]);
        let workspace = format!("root:{name}");
        let cluster = hub.logical_cluster(&workspace);
        let user = hub.kubectl(&workspace);
        Self {
            hub,
            member,
            cluster,
            user,
            below: member.kubectl().clone(),
            workspace,
        }
    }

    fn bind(&self) {
        self.hub.tmc(&self.workspace, &["bind", "compute"]).ok();
    }

    /// From the first apply to the last trace of it.
    fn run(&self) {
        self.user.apply(APP);
        let namespace = self.downstream_namespace("shop");
        self.objects_arrive(&namespace);
        self.status_comes_back(&namespace);
        self.edits_arrive(&namespace);
        self.drift_is_repaired(&namespace);
        self.deletes_complete(&namespace);
    }

    /// The namespace of the member for one of the workspace.
    fn downstream_namespace(&self, upstream: &str) -> String {
        until("the namespace appears in the member", SOON, || {
            let selector = "internal.workload.kcp.io/cluster";
            let list = self.below.json(&["get", "namespaces", "-l", selector]);
            let items = list["items"].as_array().cloned().unwrap_or_default();
            let found = items.iter().find_map(|item| self.is_ours(item, upstream));
            found.ok_or_else(|| format!("no namespace for {upstream}: {list:#}"))
        })
    }

    /// The name of a namespace of the member if it stands for `upstream`, checked against the rule
    /// by which its name is made.
    fn is_ours(&self, namespace: &Value, upstream: &str) -> Option<String> {
        let text = namespace["metadata"]["annotations"]["kcp.io/namespace-locator"].as_str()?;
        let locator: Value = serde_json::from_str(text).ok()?;
        if locator["cluster"] != self.cluster || locator["namespace"] != upstream {
            return None;
        }
        let name = namespace["metadata"]["name"].as_str()?.to_owned();
        let parsed = tmc_api::hashes::Locator::parse(text).ok()?;
        assert_eq!(name, tmc_api::hashes::downstream_namespace(&parsed));
        let labels = &namespace["metadata"]["labels"];
        assert_eq!(
            labels["kcp.io/tenant-id"],
            tmc_api::hashes::tenant_id(&parsed)
        );
        assert_eq!(labels["pod-security.kubernetes.io/enforce"], "baseline");
        Some(name)
    }

    fn objects_arrive(&self, namespace: &str) {
        let get = |kind: &str, name: &str| {
            until(
                &format!("{kind} {name} appears in the member"),
                SOON,
                || {
                    let output = self
                        .below
                        .run(&["-n", namespace, "get", kind, name, "-o", "json"]);
                    if output.succeeded() {
                        Ok(output.json())
                    } else {
                        Err(output.to_string())
                    }
                },
            )
        };
        assert_eq!(
            get("configmap", "settings")["data"],
            json!({"colour": "blue"})
        );
        assert_eq!(
            get("secret", "password")["data"],
            json!({"word": "c3dvcmRmaXNo"})
        );
        let service = get("service", "web");
        assert_eq!(service["spec"]["ports"][0]["targetPort"], 8080);
        assert!(
            service["spec"]["clusterIP"].is_string(),
            "the member allocates: {service:#}"
        );
        let deployment = get("deployment", "web");
        assert_eq!(deployment["spec"]["replicas"], 2);
        let annotations = &deployment["metadata"]["annotations"];
        assert!(
            annotations.get("kcp.io/cluster").is_none(),
            "{annotations:#}"
        );
    }

    fn status_comes_back(&self, namespace: &str) {
        let wait = [
            "-n",
            "shop",
            "rollout",
            "status",
            "deployment/web",
            "--timeout=30s",
        ];
        let rollout = self.user.run(&wait);
        assert!(
            rollout.succeeded(),
            "{rollout}\nhub's log:\n{}",
            self.hub.log_tail()
        );
        let upstream = self.user.json(&["-n", "shop", "get", "deployment", "web"]);
        let downstream = self
            .below
            .json(&["-n", namespace, "get", "deployment", "web"]);
        is_true(&upstream, "Available").unwrap();
        assert_eq!(upstream["status"]["readyReplicas"], 2);
        for field in ["replicas", "updatedReplicas", "availableReplicas"] {
            assert_eq!(
                upstream["status"][field], downstream["status"][field],
                "{field}"
            );
        }
        let [observed, current] = [
            &upstream["status"]["observedGeneration"],
            &upstream["metadata"]["generation"],
        ];
        assert_eq!(
            observed, current,
            "observedGeneration counts the hub's generations"
        );
        let available = |object: &Value| condition(object, "Available").cloned().unwrap();
        assert_eq!(
            available(&upstream)["reason"],
            available(&downstream)["reason"]
        );
    }

    fn edits_arrive(&self, namespace: &str) {
        self.user
            .ok(&["-n", "shop", "scale", "deployment/web", "--replicas=3"]);
        let patch = r#"{"data":{"colour":"green","size":"L"}}"#;
        self.user
            .ok(&["-n", "shop", "patch", "configmap", "settings", "-p", patch]);
        self.eventually(
            namespace,
            "configmap/settings",
            "/data/colour",
            &json!("green"),
        );
        self.eventually(namespace, "deployment/web", "/spec/replicas", &json!(3));
        let three = "--for=jsonpath={.status.readyReplicas}=3";
        self.user.ok(&[
            "-n",
            "shop",
            "wait",
            three,
            "deployment/web",
            "--timeout=20s",
        ]);
        // What is taken away on the hub goes below, too.
        let patch = r#"{"data":{"size":null}}"#;
        self.user
            .ok(&["-n", "shop", "patch", "configmap", "settings", "-p", patch]);
        until("the key goes from the member", SOON, || {
            let map = self
                .below
                .json(&["-n", namespace, "get", "configmap", "settings"]);
            let gone = map["data"].get("size").is_none();
            if gone {
                Ok(())
            } else {
                Err(map["data"].to_string())
            }
        });
    }

    fn drift_is_repaired(&self, namespace: &str) {
        let below = |args: &[&str]| self.below.ok(&[&["-n", namespace], args].concat());
        below(&[
            "patch",
            "configmap",
            "settings",
            "-p",
            r#"{"data":{"colour":"red"}}"#,
        ]);
        self.eventually(
            namespace,
            "configmap/settings",
            "/data/colour",
            &json!("green"),
        );
        below(&["scale", "deployment/web", "--replicas=7"]);
        self.eventually(namespace, "deployment/web", "/spec/replicas", &json!(3));
        let before = self
            .below
            .json(&["-n", namespace, "get", "secret", "password"]);
        below(&["delete", "secret", "password"]);
        until("the deleted Secret is made again", SOON, || {
            let args = ["-n", namespace, "get", "secret", "password", "-o", "json"];
            let output = self.below.run(&args);
            if !output.succeeded() {
                return Err(output.to_string());
            }
            let after = output.json();
            assert_eq!(after["data"], before["data"]);
            let other = after["metadata"]["uid"] != before["metadata"]["uid"];
            if other {
                Ok(())
            } else {
                Err("the old one is still there".to_owned())
            }
        });
    }

    fn deletes_complete(&self, namespace: &str) {
        // Each waits until the object is gone from the hub, which is after it is gone below.
        for object in [
            "configmap/settings",
            "secret/password",
            "service/web",
            "deployment/web",
        ] {
            self.user
                .ok(&["-n", "shop", "delete", object, "--timeout=30s"]);
            let output = self.below.run(&["-n", namespace, "get", object]);
            let message = output.fails_with(1);
            assert!(message.contains("NotFound"), "{object}: {message}");
        }
        self.user
            .ok(&["delete", "namespace", "shop", "--timeout=30s"]);
        until("the namespace goes from the member", seconds(60), || {
            let output = self.below.run(&["get", "namespace", namespace]);
            if output.stderr.contains("NotFound") {
                Ok(())
            } else {
                Err(output.to_string())
            }
        });
    }

    /// Waits until a field of an object of the member has a value.
    fn eventually(&self, namespace: &str, object: &str, pointer: &str, wanted: &Value) {
        until(
            &format!("{object} of the member has {pointer} {wanted}"),
            SOON,
            || {
                let found = self.below.json(&["-n", namespace, "get", object]);
                let value = found.pointer(pointer).cloned().unwrap_or_default();
                if value == *wanted {
                    Ok(())
                } else {
                    Err(value.to_string())
                }
            },
        );
    }
}
