//! The kubeconfig of a registered cluster is seen by nobody but the hub.

use serde_json::json;

use crate::support::http::Api;
use crate::support::hub::{self, Hub, is_true};
use crate::support::real::{self, needs_real_programs};
use crate::support::wait::{seconds, until};

#[test]
fn the_registered_kubeconfig_is_in_no_view_and_in_no_member() {
    needs_real_programs!();
    let hub = hub::shared();
    let member = real::member();
    let workspace = hub.workspace("vault");
    let admin = hub.api();
    let base = format!("/clusters/{workspace}");
    let secrets = format!("{base}/api/v1/namespaces/default/secrets");
    let file = member.kubeconfig_file();
    let file = file.to_str().unwrap();
    hub.tmc(
        &workspace,
        &[
            "cluster",
            "register",
            "west",
            "--member-kubeconfig",
            file,
            "--raw",
        ],
    )
    .ok();
    register_with_opaque_secret(&admin, &base, member.kubeconfig());
    hub.tmc(&workspace, &["bind", "compute"]).ok();
    let marker = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ordinary"},
        "stringData": {"word": "vault-marker"}});
    admin.post(&secrets, &marker).expect(&[201]);
    until(
        "an ordinary Secret of the same namespace is synced",
        seconds(20),
        || {
            let all = member.api().get("/api/v1/secrets").expect(&[200]).text;
            let marker = base64("vault-marker");
            if all.contains(&marker) {
                Ok(())
            } else {
                Err("not there".to_owned())
            }
        },
    );
    let in_member = member.api().get("/api/v1/secrets").expect(&[200]).json();
    for secret in in_member["items"].as_array().unwrap() {
        assert_ne!(secret["type"], "tmc.kcp.io/kubeconfig");
        let copied = secret["data"]
            .as_object()
            .is_some_and(|data| data.contains_key("kubeconfig"));
        assert!(
            !copied,
            "a kubeconfig in the member: {}",
            secret["metadata"]
        );
    }
    for name in ["west-kubeconfig", "plain"] {
        let secret = admin
            .get(&format!("{secrets}/{name}"))
            .expect(&[200])
            .json();
        let labels = secret["metadata"]["labels"].to_string();
        assert!(
            !labels.contains("state.workload.kcp.io"),
            "{name}: {labels}"
        );
    }
    no_view_shows_it(hub, &workspace);
}

/// A Cluster whose Secret has no telling type.
fn register_with_opaque_secret(admin: &Api, base: &str, kubeconfig: &str) {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "plain"},
        "stringData": {"kubeconfig": kubeconfig}});
    let cluster = json!({"apiVersion": "workload.kcp.io/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "plain"},
        "spec": {"kubeconfigSecretRef": {"name": "plain", "key": "kubeconfig"}}});
    // The reference first: at no time is the Secret one that nobody refers to.
    let clusters = format!("{base}/apis/workload.kcp.io/v1alpha1/namespaces/default/clusters");
    admin.post(&clusters, &cluster).expect(&[201]);
    admin
        .post(
            &format!("{base}/api/v1/namespaces/default/secrets"),
            &secret,
        )
        .expect(&[201]);
}

/// Reads the syncer's view as somebody who may.
fn no_view_shows_it(hub: &Hub, workspace: &str) {
    let kubectl = hub.kubectl(workspace);
    let targets = kubectl.json(&["get", "synctargets"]);
    kubectl.ok(&[
        "create",
        "clusterrole",
        "syncing",
        "--verb=get,sync",
        "--resource=synctargets.workload.kcp.io",
    ]);
    kubectl.ok(&[
        "create",
        "clusterrolebinding",
        "syncing",
        "--clusterrole=syncing",
        "--user=agent",
    ]);
    hub.grant(workspace, "agent", "view");
    let agent = std::fs::read_to_string(hub.user(workspace, "agent")).unwrap();
    let agent = Api::from_kubeconfig(&agent);
    let cluster = hub.logical_cluster(workspace);
    let mut seen = false;
    for target in targets["items"].as_array().unwrap() {
        if is_true(target, "Ready").is_err() {
            continue;
        }
        let url = target["status"]["virtualWorkspaces"][0]["syncerURL"]
            .as_str()
            .unwrap();
        let base = url.strip_prefix(&hub.url()).unwrap();
        for inner in ["*", cluster.as_str()] {
            let list = agent
                .get(&format!("{base}/clusters/{inner}/api/v1/secrets"))
                .expect(&[200]);
            seen |= list.text.contains(&base64("vault-marker"));
            assert!(!list.text.contains("tmc.kcp.io/kubeconfig"), "{list}");
            assert!(!list.text.contains("\"kubeconfig\""), "{list}");
        }
        for name in ["west-kubeconfig", "plain"] {
            let path =
                format!("{base}/clusters/{cluster}/api/v1/namespaces/default/secrets/{name}");
            agent.get(&path).expect(&[404]);
            agent
                .merge(&path, &json!({"metadata": {"labels": {"a": "b"}}}))
                .expect(&[403, 404]);
        }
    }
    assert!(
        seen,
        "the view shows the ordinary Secret, so the others could have been there"
    );
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
