//! The real cluster by itself: what the other tests take for granted.

use crate::support::real::{self, needs_real_programs};

#[test]
fn a_deployment_becomes_available_in_a_real_cluster() {
    needs_real_programs!();
    let kubectl = real::member().kubectl();
    kubectl.ok(&["create", "namespace", "harness"]);
    kubectl.ok(&[
        "-n",
        "harness",
        "create",
        "deployment",
        "web",
        "--image=nginx",
        "--replicas=3",
    ]);
    kubectl.ok(&[
        "-n",
        "harness",
        "rollout",
        "status",
        "deployment/web",
        "--timeout=30s",
    ]);
    let deployment = kubectl.json(&["-n", "harness", "get", "deployment", "web"]);
    assert_eq!(deployment["status"]["readyReplicas"], 3);
    kubectl.ok(&["delete", "namespace", "harness", "--timeout=30s"]);
}
