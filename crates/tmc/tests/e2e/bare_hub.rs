//! A hub that is a real API server with nothing of ours in it but CustomResourceDefinitions: the
//! controllers and virtual workspaces are `tmc controllers`, in one replica or two.

mod commands;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::hub::{is_true, tmc};
use crate::support::process::{self, Server};
use crate::support::real::{self, Real, needs_real_programs};
use crate::support::replica::{Replica, leader, lease, register};
use crate::support::wait::{seconds, until};

/// Nothing on the way between hub and member takes longer, on a machine that has much else to do.
const SOON: Duration = seconds(60);
/// The lease, and time for a new leader to look at everything.
const TAKEOVER: Duration = seconds(90);

const APP: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {placed: bare}}
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
"#;

/// The namespace of the member that stands for one of the hub, for a target.
fn downstream_namespace(member: &Real, target: &str, upstream: &str) -> Result<String, String> {
    let selector = "internal.workload.kcp.io/cluster";
    let list = member
        .kubectl()
        .json(&["get", "namespaces", "-l", selector]);
    let ours = |item: &&Value| {
        let text = item["metadata"]["annotations"]["kcp.io/namespace-locator"].as_str();
        let locator: Option<Value> = text.and_then(|text| serde_json::from_str(text).ok());
        locator.is_some_and(|locator| {
            locator["cluster"] == "root"
                && locator["namespace"] == upstream
                && locator["syncTarget"]["name"] == target
        })
    };
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let found: Vec<&str> = items
        .iter()
        .filter(ours)
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect();
    match found.as_slice() {
        [one] => Ok((*one).to_owned()),
        other => Err(format!("{other:?} stand for {upstream} of {target}")),
    }
}

#[test]
fn a_bare_kubernetes_api_server_is_a_hub() {
    needs_real_programs!();
    let hub = Real::start_hub("bare-hub").unwrap_or_else(|why| panic!("no hub: {why}"));
    let member = real::member();
    without_definitions_it_says_what_is_missing(&hub);
    let mut replica = Replica::start(&hub, "tmc-a");
    let target = register(&hub, "bare", member);
    hub.kubectl().apply(APP);
    let namespace = until("the namespace appears in the member", SOON, || {
        downstream_namespace(member, &target, "shop")
    });
    objects_arrive(member, &namespace);
    status_comes_back(&hub);
    views_are_for_those_who_may_sync(&hub, &replica, &target);
    own_objects_stay(&hub, member, &target);
    deletion_completes(&hub, member, &namespace);
    let before = definitions(&hub);
    replica.server.signal(Signal::TERM);
    assert_eq!(
        replica.server.wait(SOON),
        Some(0),
        "{}",
        replica.server.log_tail()
    );
    assert_eq!(leader(&hub), "", "who stops gives the lease back");
    // An older definition is brought up to date, the others are left alone.
    let old = json!({"spec": {"names": {"categories": ["all"]}}});
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clusters.workload.kcp.io";
    hub.api().merge(path, &old).expect(&[200]);
    let _again = Replica::start(&hub, "tmc-b");
    let after = definitions(&hub);
    for (name, (version, categories)) in &before {
        assert_eq!(after[name].1, *categories, "{name}");
        let same = after[name].0 == *version;
        assert_eq!(
            same,
            name != "clusters.workload.kcp.io",
            "{name}: {before:?} {after:?}"
        );
    }
}

/// Version and categories of each definition of ours.
fn definitions(hub: &Real) -> BTreeMap<String, (String, Value)> {
    let list = hub.kubectl().json(&["get", "crds"]);
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let ours = |item: &Value| {
        let name = item["metadata"]["name"].as_str()?;
        name.ends_with(".kcp.io").then(|| {
            let version = item["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or_default();
            let categories = item["spec"]["names"]["categories"].clone();
            (name.to_owned(), (version.to_owned(), categories))
        })
    };
    items.iter().filter_map(ours).collect()
}

fn without_definitions_it_says_what_is_missing(hub: &Real) {
    let run = |kind: &str, more: &[&str]| {
        let mut command = tmc();
        command.args(["controllers", "--hub", kind, "--hub-kubeconfig"]);
        command.arg(hub.kubeconfig_file()).args(more);
        process::run(&mut command, b"", seconds(30)).fails_with(1)
    };
    let url = ["--virtual-workspace-url", "https://views.example.org"];
    let error = run("kubernetes", &url);
    assert!(error.contains("synctargets.workload.kcp.io"), "{error}");
    assert!(error.contains("--install-crds"), "{error}");
    assert!(run("kcp", &url).contains("--hub kubernetes"));
    let error = run("kubernetes", &[]);
    assert!(error.contains("--serve-virtual-workspaces"), "{error}");
}

fn objects_arrive(member: &Real, namespace: &str) {
    let get = |kind: &str, name: &str| {
        until(
            &format!("{kind} {name} appears in the member"),
            SOON,
            || {
                let args = ["-n", namespace, "get", kind, name, "-o", "json"];
                let output = member.kubectl().run(&args);
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
    assert_eq!(
        get("service", "web")["spec"]["ports"][0]["targetPort"],
        8080
    );
    assert_eq!(get("deployment", "web")["spec"]["replicas"], 2);
}

fn status_comes_back(hub: &Real) {
    let deployment = until("the Deployment is Available on the hub", SOON, || {
        let deployment = hub
            .kubectl()
            .json(&["-n", "shop", "get", "deployment", "web"]);
        is_true(&deployment, "Available").map(|()| deployment)
    });
    let status = &deployment["status"];
    assert_eq!(status["availableReplicas"], 2, "{deployment:#}");
    let generation = &deployment["metadata"]["generation"];
    assert_eq!(status["observedGeneration"], *generation, "{deployment:#}");
    // What only the view has is in no object of the hub.
    let annotations = &deployment["metadata"]["annotations"];
    assert!(
        annotations.get("kcp.io/cluster").is_none(),
        "{annotations:#}"
    );
    let sets = hub.kubectl().json(&["get", "replicasets", "-A"]);
    assert_eq!(sets["items"], json!([]), "nothing runs workload on the hub");
}

const AGENT_BINDING: &str = r#"
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: agent}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: agent}
subjects: [{kind: ServiceAccount, namespace: default, name: agent}]
"#;

/// The view of a target is served over TLS to whoever the hub knows and lets sync.
fn views_are_for_those_who_may_sync(hub: &Real, replica: &Replica, target: &str) {
    let kubectl = hub.kubectl();
    kubectl.ok(&["create", "serviceaccount", "agent"]);
    let token = kubectl.ok(&["create", "token", "agent"]);
    let agent = replica.views(hub, token.trim());
    let object = kubectl.json(&["get", "synctarget", target]);
    let url = object["status"]["virtualWorkspaces"][0]["syncerURL"].as_str();
    let root = url
        .expect("a URL")
        .strip_prefix(&replica.url())
        .expect("the URL given");
    let list = format!("{root}/clusters/*/apis/apps/v1/deployments");
    agent.get(&list).expect(&[403]);
    replica.views(hub, "made-up").get(&list).expect(&[401]);
    kubectl.apply(&format!(
        "{}{AGENT_BINDING}",
        r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: agent}
rules:
- {apiGroups: [workload.kcp.io], resources: [synctargets], resourceNames: [NAME], verbs: [sync]}
"#
        .replace("NAME", target),
    ));
    // A refusal is remembered for some seconds.
    let seen = until("the agent is let in", SOON, || match agent.get(&list) {
        answer if answer.code == 200 => Ok(answer.json()),
        answer => Err(answer.to_string()),
    });
    let items = seen["items"].as_array().expect("items");
    assert_eq!(items.len(), 1, "{seen:#}");
    let annotations = &items[0]["metadata"]["annotations"];
    assert_eq!(annotations["kcp.io/cluster"], "root", "{annotations:#}");
    let other = format!("{root}/clusters/team/apis/apps/v1/deployments");
    assert!(
        [403, 404].contains(&agent.get(&other).code),
        "there is one workspace"
    );
    let secrets = agent
        .get(&format!("{root}/clusters/*/api/v1/secrets"))
        .expect(&[200]);
    let secrets = secrets.json();
    let secrets = secrets["items"].as_array().into_iter().flatten();
    let names: Vec<&Value> = secrets.map(|item| &item["metadata"]["name"]).collect();
    assert_eq!(
        names,
        ["password"],
        "no credential of a cluster is in a view"
    );
}

/// What belongs to the hub's own API server is not synced, whatever is placed.
fn own_objects_stay(hub: &Real, member: &Real, target: &str) {
    let mark = "state.workload.kcp.io";
    hub.kubectl()
        .ok(&["label", "namespace", "default", "placed=bare"]);
    hub.kubectl().ok(&[
        "-n",
        "default",
        "create",
        "configmap",
        "own",
        "--from-literal=a=b",
    ]);
    let namespace = until("the namespace default is placed", SOON, || {
        downstream_namespace(member, target, "default")
    });
    until("its ConfigMap arrives", SOON, || {
        let found = member
            .kubectl()
            .run(&["-n", &namespace, "get", "configmap", "own"]);
        if found.succeeded() {
            Ok(())
        } else {
            Err(found.to_string())
        }
    });
    for (kind, name) in [("service", "kubernetes"), ("secret", "bare-kubeconfig")] {
        let object = hub.kubectl().json(&["-n", "default", "get", kind, name]);
        let labels = object["metadata"]["labels"].to_string();
        assert!(!labels.contains(mark), "{kind} {name}: {labels}");
    }
}

fn deletion_completes(hub: &Real, member: &Real, namespace: &str) {
    hub.kubectl()
        .ok(&["-n", "shop", "delete", "deployment", "web", "--timeout=60s"]);
    let gone = member
        .kubectl()
        .run(&["-n", namespace, "get", "deployment", "web"]);
    assert!(gone.stderr.contains("NotFound"), "{gone}");
    hub.kubectl()
        .ok(&["delete", "namespace", "shop", "--timeout=60s"]);
    // Its own namespace there stays for a while; nothing is in it.
    let left = member
        .kubectl()
        .json(&["-n", namespace, "get", "configmaps,secrets,services"]);
    let items = left["items"].as_array().cloned().unwrap_or_default();
    let ours =
        |item: &Value| item["metadata"]["labels"]["internal.workload.kcp.io/cluster"].is_string();
    assert!(!items.iter().any(ours), "{left:#}");
}

#[test]
fn another_replica_takes_over_when_the_leader_is_killed_and_one_that_lost_the_lease_writes_nothing()
{
    needs_real_programs!();
    let hub = Real::start_hub("replicas").unwrap_or_else(|why| panic!("no hub: {why}"));
    let member = real::member();
    let mut replicas = vec![Replica::start(&hub, "tmc-a"), Replica::start(&hub, "tmc-b")];
    until("somebody leads", SOON, || match leader(&hub) {
        name if name.is_empty() => Err("nobody".to_owned()),
        name => Ok(name),
    });
    let target = register(&hub, "moving", member);
    hub.kubectl().apply(
        "{apiVersion: v1, kind: Namespace, metadata: {name: load, labels: {placed: moving}}}",
    );
    make_objects(&hub, 0..20);
    let _agent = an_agent_of_the_follower_is_heard_by_the_leader(&hub, member, &replicas);
    // In the middle of the next ones the leader is gone.
    let first = take(&mut replicas, &leader(&hub));
    let (hub_too, mut first) = (&hub, first);
    let left = std::thread::scope(|scope| {
        let making = scope.spawn(|| make_objects(hub_too, 20..60));
        until("some of them are there", SOON, || {
            let list = hub_too
                .api()
                .get("/api/v1/namespaces/load/configmaps")
                .json();
            let count = list["items"].as_array().map_or(0, Vec::len);
            if count >= 30 {
                Ok(())
            } else {
                Err(format!("{count}"))
            }
        });
        first.server.kill();
        let left = lease(hub_too);
        making.join().expect("all are made");
        left
    });
    let second = replicas[0].name().to_owned();
    until("the other one leads", TAKEOVER, || match leader(&hub) {
        name if name == second => Ok(()),
        name => Err(name),
    });
    is_taken_over_in_time(&left, &lease(&hub));
    all_arrive(member, &target, 60);
    one_that_lost_the_lease_writes_nothing(&hub, member, &target, replicas.remove(0));
    once_each(&hub, &target);
}

/// By the times in the Lease itself: nobody takes it before it is over, and then it does not lie idle
/// for as long again.
fn is_taken_over_in_time(left: &Value, taken: &Value) {
    let time = |lease: &Value, field: &str| -> Timestamp {
        let text = lease["spec"][field].as_str().expect("a time");
        text.parse().expect("a time")
    };
    let duration = left["spec"]["leaseDurationSeconds"].as_i64();
    let duration = SignedDuration::from_secs(duration.expect("a duration"));
    let idle = time(taken, "acquireTime").duration_since(time(left, "renewTime"));
    assert!(
        duration <= idle && idle < duration * 2,
        "{idle} between the leaders, of a Lease of {duration}"
    );
}

/// The beats of an agent reach the leader from whichever replica it has connected to, and so does
/// what it reports of its member.
fn an_agent_of_the_follower_is_heard_by_the_leader(
    hub: &Real,
    member: &Real,
    replicas: &[Replica],
) -> Server {
    let leader = leader(hub);
    let follower = replicas.iter().find(|replica| replica.name() != leader);
    let follower = follower.expect("one of two");
    let kubectl = hub.kubectl();
    kubectl.ok(&["create", "serviceaccount", "edge"]);
    kubectl.apply(
        r#"
apiVersion: workload.kcp.io/v1alpha1
kind: SyncTarget
metadata: {name: edge}
spec: {syncerConfig: {mode: External}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: edge}
rules:
- {apiGroups: [workload.kcp.io], resources: [synctargets], resourceNames: [edge], verbs: [get, sync]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: edge}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edge}
subjects: [{kind: ServiceAccount, namespace: default, name: edge}]
"#,
    );
    let token = kubectl.ok(&["create", "token", "edge"]);
    let target = || hub.kubectl().json(&["get", "synctarget", "edge"]);
    let uid = target()["metadata"]["uid"].clone();
    let mut command = tmc();
    command.arg("syncer").arg("--from-kubeconfig");
    command.arg(follower.agent(hub, token.trim()));
    command.arg("--to-kubeconfig").arg(member.kubeconfig_file());
    command.args(["--sync-target-name", "edge", "--sync-target-uid"]);
    command.arg(uid.as_str().expect("a uid"));
    let log = hub.scratch().join("edge.log");
    let mut agent = Server::start("tmc syncer", &mut command, &log);
    until("the SyncTarget of the agent is Ready", SOON, || {
        if let Some(ended) = agent.ended() {
            panic!("{ended}");
        }
        is_true(&target(), "Ready")
    });
    agent
}

fn take(replicas: &mut Vec<Replica>, name: &str) -> Replica {
    let at = replicas.iter().position(|replica| replica.name() == name);
    replicas.remove(at.unwrap_or_else(|| panic!("{name} leads, and is none of ours")))
}

fn make_objects(hub: &Real, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("load-{number}")}, "data": {"number": number.to_string()},
        });
        let path = "/api/v1/namespaces/load/configmaps";
        hub.api().post(path, &object).expect(&[201]);
    }
}

/// Objects 0 to `count` are in the member, each as it was made, in one namespace.
fn all_arrive(member: &Real, target: &str, count: u32) {
    let numbers = |list: &Value| -> BTreeMap<String, Value> {
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let ours = items.into_iter().filter_map(|item| {
            let name = item["metadata"]["name"].as_str()?.to_owned();
            name.starts_with("load-")
                .then(|| (name, item["data"]["number"].clone()))
        });
        ours.collect()
    };
    let expected: BTreeMap<String, Value> = (0..count)
        .map(|n| (format!("load-{n}"), json!(n.to_string())))
        .collect();
    until("every object is in the member", TAKEOVER, || {
        let namespace = downstream_namespace(member, target, "load")?;
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        let found = numbers(&member.api().get(&path).json());
        if found == expected {
            Ok(())
        } else {
            Err(format!("{} of {count}", found.len()))
        }
    });
}

/// Name of the user of a write, if it succeeded.
fn writer(event: &Value) -> Option<&str> {
    let code = event["responseStatus"]["code"].as_u64()?;
    let user = event["user"]["username"].as_str()?;
    (200..300)
        .contains(&code)
        .then_some(user)
        .filter(|user| user.starts_with("tmc-"))
}

/// What a write was on, as `resource/namespace/name`.
fn object_of(event: &Value) -> String {
    let part = |field: &str| event["objectRef"][field].as_str().unwrap_or_default();
    format!(
        "{}/{}/{}",
        part("resource"),
        part("namespace"),
        part("name")
    )
}

/// No replica made what another one had made already.
fn once_each(hub: &Real, target: &str) {
    let mut made: BTreeMap<String, u32> = BTreeMap::new();
    let reviews = ["subjectaccessreviews", "tokenreviews", "events"];
    for event in hub.writes() {
        let resource = event["objectRef"]["resource"].as_str().unwrap_or_default();
        let counts = event["verb"] == "create" && !reviews.contains(&resource);
        if counts && writer(&event).is_some() {
            *made.entry(object_of(&event)).or_default() += 1;
        }
    }
    assert!(
        made.contains_key(&format!("synctargets//{target}")),
        "{made:?}"
    );
    let twice: Vec<_> = made.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "made more than once: {twice:?}");
}

/// A leader that is suspended beyond its lease wakes up to another one, and must not go on.
fn one_that_lost_the_lease_writes_nothing(hub: &Real, member: &Real, target: &str, old: Replica) {
    let new = Replica::start(hub, "tmc-c");
    old.server.signal(Signal::STOP);
    until("the new one leads", TAKEOVER, || match leader(hub) {
        name if name == new.name() => Ok(()),
        name => Err(name),
    });
    // There is something to do for whoever thinks that it leads.
    make_objects(hub, 60..70);
    old.server.signal(Signal::CONT);
    until("the old one notices", SOON, || {
        let log = old.server.log_tail();
        if log.contains("the lease was lost") {
            Ok(())
        } else {
            Err(log)
        }
    });
    make_objects(hub, 70..80);
    all_arrive(member, target, 80);
    let writes = hub.writes();
    let taken = writes.iter().position(|event| {
        writer(event) == Some(new.name()) && object_of(event) == "leases/kcp-system/tmc-controllers"
    });
    let after = &writes[taken.expect("it took the lease")..];
    let own_lists = format!("leases/kcp-system/tmc-beats-{}", old.name());
    let others: Vec<String> = after
        .iter()
        .filter(|event| writer(event) == Some(old.name()))
        .map(|event| format!("{} {}", event["verb"], object_of(event)))
        .filter(|what| !what.contains(&own_lists) && !what.contains("reviews/"))
        .collect();
    assert!(
        others.is_empty(),
        "written after the lease was lost: {others:#?}"
    );
    assert!(
        after
            .iter()
            .any(|event| writer(event) == Some(new.name()) && event["verb"] == "patch"),
        "the new one works"
    );
}
