//! What becomes of dependents, on the hub as on a real cluster.

use serde_json::{Value, json};

use crate::support::http::Api;
use crate::support::hub;
use crate::support::kubectl::Kubectl;
use crate::support::real::{self, needs_real_programs};
use crate::support::wait::{seconds, until};

const NAMESPACE: &str = "cascades";

struct Side {
    kubectl: Kubectl,
    api: Api,
    base: String,
}

impl Side {
    fn make(&self, path: &str, object: &Value) -> Value {
        let path = format!("{}{path}", self.base);
        self.api.post(&path, object).expect(&[201]).json()
    }

    /// A Deployment that makes no ReplicaSet, a ReplicaSet of it, and a ConfigMap of that one.
    fn family(&self, name: &str) {
        let template = json!({"metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": "nginx"}]}});
        let spec = |paused: bool| {
            let mut spec = json!({"replicas": 0, "template": template,
                "selector": {"matchLabels": {"app": name}}});
            if paused {
                spec["paused"] = true.into();
            }
            spec
        };
        let apps = format!("/apis/apps/v1/namespaces/{NAMESPACE}");
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name}, "spec": spec(true)});
        let deployment = self.make(&format!("{apps}/deployments"), &deployment);
        let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": name, "ownerReferences": [owner(&deployment)],
                "labels": {"app": name}}, "spec": spec(false)});
        let set = self.make(&format!("{apps}/replicasets"), &set);
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "ownerReferences": [owner(&set)]}});
        self.make(&format!("/api/v1/namespaces/{NAMESPACE}/configmaps"), &map);
    }

    /// What is left, with the number of its owners.
    fn left(&self) -> String {
        let list =
            self.kubectl
                .json(&["-n", NAMESPACE, "get", "deployments,replicasets,configmaps"]);
        let items = list["items"].as_array().unwrap().iter();
        let lines = items.filter(|item| item["metadata"]["name"] != "kube-root-ca.crt");
        let lines = lines.map(|item| {
            let owners = item["metadata"]["ownerReferences"].as_array();
            let owners = owners.map_or(0, Vec::len);
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (kind, name) = (text(&item["kind"]), text(&item["metadata"]["name"]));
            format!("{kind} {name} {owners}")
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn delete(&self, name: &str, cascade: &str) -> (bool, String) {
        let output = self.kubectl.run(&[
            "-n",
            NAMESPACE,
            "delete",
            "deployment",
            name,
            &format!("--cascade={cascade}"),
            "--timeout=30s",
        ]);
        (
            output.succeeded(),
            format!("{}{}", output.stdout, output.stderr),
        )
    }
}

fn owner(object: &Value) -> Value {
    json!({"apiVersion": object["apiVersion"], "kind": object["kind"],
        "name": object["metadata"]["name"], "uid": object["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true})
}

/// Kinds and numbers of owners of what a cascade leaves.
fn left_of(cascade: &str) -> Vec<&'static str> {
    match cascade {
        "orphan" => vec!["ReplicaSet orphan 0", "ConfigMap orphan 1"],
        // kubectl does not know it.
        "nonsense" => vec![
            "Deployment nonsense 0",
            "ReplicaSet nonsense 1",
            "ConfigMap nonsense 1",
        ],
        _ => Vec::new(),
    }
}

#[test]
fn cascades_leave_the_same_behind_as_on_a_real_cluster() {
    needs_real_programs!();
    let hub = hub::shared();
    let workspace = hub.workspace("cascades");
    let ours = Side {
        kubectl: hub.kubectl(&workspace),
        api: hub.api(),
        base: format!("/clusters/{workspace}"),
    };
    let real = real::second();
    let theirs = Side {
        kubectl: real.kubectl().clone(),
        api: real.api().clone(),
        base: String::new(),
    };
    for side in [&ours, &theirs] {
        side.kubectl.ok(&["create", "namespace", NAMESPACE]);
    }
    for cascade in ["background", "foreground", "orphan", "nonsense"] {
        for side in [&ours, &theirs] {
            side.family(cascade);
        }
        assert_eq!(
            ours.delete(cascade, cascade),
            theirs.delete(cascade, cascade),
            "{cascade}"
        );
        let expected = left_of(cascade);
        until(cascade, seconds(60), || {
            let (here, there) = (ours.left(), theirs.left());
            let lines = here.lines().filter(|line| line.contains(cascade));
            if here == there && lines.collect::<Vec<_>>() == expected {
                Ok(())
            } else {
                Err(format!("hub:\n{here}\nreal:\n{there}"))
            }
        });
    }
    theirs.kubectl.ok(&["delete", "namespace", NAMESPACE]);
}
