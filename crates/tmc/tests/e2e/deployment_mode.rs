//! Mode Deployment against a real cluster: registered with an account of its own, installed, rolled
//! out by real controllers, run as two replicas with the very credential that their pods mount,
//! repaired, removed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::commands::transcript::Transcript;
use crate::support::hub::{Hub, is_true, tmc};
use crate::support::process::Server;
use crate::support::real::{self, needs_real_programs};
use crate::support::wait::{seconds, until};

/// A name for the hub that no member takes for its own machine.
const EXTERNAL: &str = "https://hub.example.test:6443";
/// Things happen in a real cluster, on a machine that has much else to do.
const SOON: std::time::Duration = seconds(90);
/// What was changed in a member is compared once a minute.
const REPAIR: std::time::Duration = seconds(180);

/// The text under a key of a Secret.
fn text(secret: &Value, key: &str) -> String {
    let data = secret["data"][key].as_str().expect("a key of the Secret");
    String::from_utf8(STANDARD.decode(data).unwrap()).unwrap()
}

#[test]
fn a_deployment_is_rolled_out_serves_with_its_own_credential_and_goes_without_a_trace() {
    needs_real_programs!();
    let hub = Hub::start_as(EXTERNAL);
    let member = real::member();
    let below = member.kubectl();
    let workspace = hub.workspace("deployed");
    let user = hub.kubectl(&workspace);
    let kubeconfig = member.kubeconfig_file();
    let register = [
        "cluster",
        "register",
        "far",
        "--mode",
        "Deployment",
        "--member-kubeconfig",
        kubeconfig.to_str().unwrap(),
    ];
    hub.tmc(&workspace, &register).ok();
    let target_name = until("a SyncTarget", SOON, || {
        let list = user.json(&["get", "synctargets"]);
        let name = list["items"][0]["metadata"]["name"].as_str();
        name.map(str::to_owned).ok_or("none yet".to_owned())
    });
    let target_name = &*target_name;
    let replicas = r#"{"spec": {"syncerConfig": {"replicas": 2}}}"#;
    user.ok(&[
        "patch",
        "synctarget",
        target_name,
        "--type=merge",
        "-p",
        replicas,
    ]);

    let of = "app.kubernetes.io/name=tmc-syncer,tmc.kcp.io/synctarget-uid";
    let deployment = until(
        "a Deployment of the syncer that is rolled out",
        SOON,
        || {
            let list = below.json(&["get", "deployments", "-A", "-l", of]);
            let items = list["items"].as_array().cloned().unwrap_or_default();
            let found = items.into_iter().next().ok_or("no Deployment")?;
            if found["status"]["readyReplicas"] == 2 {
                Ok(found)
            } else {
                Err(format!("{}", found["status"]))
            }
        },
    );
    let name = deployment["metadata"]["name"].as_str().unwrap().to_owned();
    let namespace = deployment["metadata"]["namespace"]
        .as_str()
        .unwrap()
        .to_owned();
    let target = until("the hub follows the rollout", SOON, || {
        let target = user.json(&["get", "synctarget", target_name]);
        let ready = &target["status"]["syncerStatus"]["readyReplicas"];
        if *ready != 2 {
            return Err(format!("{ready} replicas are ready"));
        }
        is_true(&target, "SyncerReady").map(|()| target)
    });
    assert_ne!(
        target["status"]["phase"], "Ready",
        "nobody beats: the pods are none"
    );

    // What the pod would run, with what it would mount. Its own account there is the kubelet's part.
    let secret = below.json(&["get", "secret", &name, "-n", &namespace]);
    let upstream = text(&secret, "hub.kubeconfig");
    assert!(
        upstream.contains(EXTERNAL),
        "agents reach the hub by its external URL"
    );
    let upstream = hub
        .scratch()
        .write("pod.kubeconfig", upstream.replace(EXTERNAL, &hub.url()));
    let token = below.ok(&["create", "token", &name, "-n", &namespace]);
    let downstream = member.kubeconfig_with_token(token.trim());
    let downstream = hub.scratch().write("pod-member.kubeconfig", downstream);
    let uid = target["metadata"]["uid"].as_str().unwrap();
    let args = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
    assert_eq!(args[3], format!("--sync-target-name={target_name}"));
    assert_eq!(args[5], format!("--lease-namespace={namespace}"));
    let replica = |pod: &str| {
        let mut command = tmc();
        command.arg("syncer").arg("--identity").arg(pod);
        command.arg("--from-kubeconfig").arg(&upstream);
        command.arg("--to-kubeconfig").arg(&downstream);
        command.args(["--sync-target-name", target_name, "--sync-target-uid", uid]);
        command.args(["--lease-namespace", &namespace]);
        let log = hub.scratch().join(&format!("{pod}.log"));
        Server::start(pod, &mut command, &log)
    };
    // Who syncs, as the hub and the Lease say it.
    let syncs = |syncer: &mut Server, pod: &str| {
        until("it is Ready by this replica", SOON, || {
            if let Some(ended) = syncer.ended() {
                panic!("{ended}");
            }
            let target = user.json(&["get", "synctarget", target_name]);
            let identity = target["status"]["syncerIdentity"].clone();
            let lease = below.json(&["get", "lease", &name, "-n", &namespace]);
            let both = lease["spec"]["holderIdentity"] == identity;
            if both && identity.as_str().is_some_and(|id| id.starts_with(pod)) {
                is_true(&target, "Ready")
            } else {
                Err(format!("{identity}, {lease}"))
            }
        });
    };
    let mut first = replica("pod-a");
    until("a holder of the Lease", SOON, || {
        if let Some(ended) = first.ended() {
            panic!("{ended}");
        }
        let lease = below.run(&["get", "lease", &name, "-n", &namespace]);
        lease.succeeded().then_some(()).ok_or(lease.stderr)
    });
    let mut syncer = replica("pod-b");
    syncs(&mut first, "pod-a");
    hub.tmc(&workspace, &["bind", "compute"]).ok();
    user.ok(&["create", "namespace", "shop"]);
    let settings = |value: &str| {
        let manifest = format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: settings, namespace: shop}}, \
             data: {{colour: {value}}}}}"
        );
        user.apply(&manifest);
        until("it arrives in the member", SOON, || {
            let label = "internal.workload.kcp.io/cluster";
            let list = below.json(&["get", "configmaps", "-A", "-l", label]);
            let mut items = list["items"].as_array().into_iter().flatten();
            let arrived = items.any(|item| {
                item["metadata"]["name"] == "settings" && item["data"]["colour"] == value
            });
            arrived.then_some(()).ok_or(list.to_string())
        });
    };
    settings("blue");
    first.kill();
    settings("green");
    syncs(&mut syncer, "pod-b");
    until("the Cluster is Ready", SOON, || {
        is_true(
            &user.json(&["get", "clusters.workload.kcp.io", "far", "-n", "default"]),
            "Ready",
        )
    });

    // Least privilege: what it syncs, and nothing else.
    let who = format!("--as=system:serviceaccount:{namespace}:{name}");
    let may = |verb: &str, what: &str| below.run(&["auth", "can-i", verb, what, "-A", &who]).stdout;
    assert!(may("patch", "deployments.apps").contains("yes"));
    assert!(may("create", "clusterrolebindings").contains("no"));
    assert!(may("delete", "nodes").contains("no"));

    // Drift of the rendered spec and of its rights is repaired.
    below.ok(&[
        "set",
        "image",
        "-n",
        &namespace,
        &format!("deployment/{name}"),
        "syncer=evil:1",
    ]);
    below.ok(&["delete", "clusterrolebinding", &name]);
    until("a repair", REPAIR, || {
        let now = below.json(&["get", "deployment", &name, "-n", &namespace]);
        let image = now["spec"]["template"]["spec"]["containers"][0]["image"].clone();
        let bound = below.run(&["get", "clusterrolebinding", &name]);
        if image != "evil:1" && bound.code == Some(0) {
            Ok(())
        } else {
            Err(format!("{image}, {}", bound.stderr))
        }
    });

    hub.tmc(&workspace, &["cluster", "unregister", "far"]).ok();
    drop(syncer);
    let of = format!("tmc.kcp.io/synctarget-uid={uid}");
    for kind in [
        "deployments",
        "clusterroles",
        "clusterrolebindings",
        "roles",
        "rolebindings",
        "leases",
        "serviceaccounts",
    ] {
        let left = below.json(&["get", kind, "-A", "-l", &of]);
        assert_eq!(left["items"], serde_json::json!([]), "{kind}");
        let left = below.json(&[
            "get",
            kind,
            "-A",
            "-l",
            "app.kubernetes.io/name=tmc-registration",
        ]);
        let ours = left["items"].as_array().unwrap().iter().filter(|item| {
            item["metadata"]["annotations"]["tmc.kcp.io/registration"]
                .as_str()
                .is_some_and(|of| of.ends_with("/default/far"))
        });
        assert_eq!(ours.count(), 0, "{kind}: {left}");
    }
    let left = user.json(&["get", "serviceaccounts,clusterroles", "-A", "-l", &of]);
    assert_eq!(
        left["items"],
        serde_json::json!([]),
        "nor an account on the hub"
    );
}

/// Whoever asks for a syncer in the member is told at once that no pod would reach the hub: by what
/// the hub refuses to store, or by what it finds when it is to install the syncer.
#[test]
fn a_deployment_that_would_not_reach_the_hub_is_no_registration_that_went_well() {
    needs_real_programs!();
    const COMPUTE: &str = "root:compute";
    let kubeconfig = real::member().kubeconfig_file().display().to_string();
    let register = [
        "cluster",
        "register",
        "edge",
        "--mode",
        "Deployment",
        "--member-kubeconfig",
        &kubeconfig,
    ];
    let hub = Hub::start();
    let mut said = Transcript::new(&hub, COMPUTE);
    said.comment("The hub has an address that only its own machine reaches.");
    said.run(&register);
    said.compare("deployment-on-loopback");

    let hub = Hub::start_as("https://hub.localhost:6443");
    let mut said = Transcript::new(&hub, COMPUTE);
    said.comment("It has a name that means each machine itself.");
    said.run(&register);
    said.comment("What was registered in vain can be taken back.");
    said.run(&["cluster", "unregister", "edge"]);
    said.compare("deployment-under-a-local-name");
}
