//! The quickstart with two real clusters: each runs a sample; when one is lost its sample moves, and
//! when it is back nothing runs twice.

use serde_json::{Value, json};
use tmc_api::hashes::Locator;
use tmc_api::keys::{
    DOWNSTREAM_CLUSTER_LABEL, NAMESPACE_LOCATOR_ANNOTATION, SYNC_TARGET_KEY_LABEL,
    TAINT_UNREACHABLE, deletion_annotation,
};

use crate::commands::transcript::Transcript;
use crate::quickstart::shows_both_available;
use crate::support::hub::{Hub, condition, is_true, tmc};
use crate::support::kubectl::Watched;
use crate::support::process;
use crate::support::real::{self, Real, needs_real_programs};
use crate::support::scratch::Scratch;
use crate::support::wait::{seconds, until};

const COMPUTE: &str = "root:compute";
const DEMO: &str = "root:demo";
/// For what takes seconds on a machine of its own.
const PATIENCE: std::time::Duration = seconds(120);
/// The namespaces of the samples.
const FIRST: &str = "on-cluster-1";
const SECOND: &str = "on-cluster-2";

#[test]
fn quickstart_on_two_real_clusters_runs_a_sample_in_each() {
    needs_real_programs!();
    let members = [real::member(), real::second()];
    let scratch = Scratch::new("two-members");
    let mut command = tmc();
    command
        .args(["quickstart", "--once"])
        .env("TMPDIR", scratch.path())
        .env("HOME", scratch.path());
    for member in members {
        command
            .arg("--member-kubeconfig")
            .arg(member.kubeconfig_file());
    }
    let output = process::run(&mut command, b"", PATIENCE);
    assert!(output.succeeded(), "{output}");
    shows_both_available(&output);
    for (member, namespace) in members.into_iter().zip([FIRST, SECOND]) {
        // Other tests use these clusters, too.
        let mut samples = copies(member);
        samples.retain(|copy| [FIRST, SECOND].contains(&&*copy.upstream));
        let [sample] = &*samples else {
            panic!("one sample a cluster: {samples:?}");
        };
        assert_eq!(sample.upstream, namespace);
        assert_eq!(sample.object["status"]["availableReplicas"], 2);
        // Its hub is gone: nobody else will.
        let remove = ["delete", "namespace", &sample.namespace, "--wait=false"];
        member.kubectl().ok(&remove);
    }
}

#[test]
fn the_workload_of_a_lost_cluster_moves_and_runs_once_when_the_cluster_is_back() {
    needs_real_programs!();
    let [mut lost, mut heir] = two_clusters();
    let demo = Demo::start(&lost, &heir);
    let [from, to] = &demo.keys;
    demo.let_the_first_sample_move();
    let scratch = demo.hub.scratch();
    let user = demo.hub.kubectl(DEMO);
    let mut web = user.watch(&["-n", FIRST, "deployment", "web"], &scratch.join("web"));
    let placement = ["placements.scheduling.kcp.io", "cluster-1"];
    let mut placement = user.watch(&placement, &scratch.join("placement"));
    assert_eq!(upstreams(&lost), [FIRST]);
    let uid = demo.web()["metadata"]["uid"].clone();

    lost.kill();
    demo.is_lost();
    let settled = until("it runs in the other cluster", PATIENCE, || {
        is_settled(&heir, FIRST)
    });
    until(
        "the lost cluster is asked to remove its copy",
        PATIENCE,
        || {
            let namespace = demo.namespace();
            let mark = deletion_annotation(from);
            let asked = namespace["metadata"]["annotations"].get(mark).is_some();
            ok_if(asked, &namespace)
        },
    );
    let moved = until("it is available on the hub", PATIENCE, || {
        let web = demo.web();
        is_true(&web, "Available").map(|()| web)
    });
    assert_eq!(moved["status"]["availableReplicas"], 2);
    let bad_news = web.events().into_iter().find(|(_, web)| !is_well(web));
    let (_, bad_news) = bad_news.expect("a status while it ran nowhere");
    for kind in ["Available", "Progressing"] {
        let said = condition(&bad_news, kind).expect("a condition");
        assert_eq!(said["status"], "Unknown", "{said}");
        assert_eq!(said["reason"], "TargetLost", "{said}");
    }

    lost.restart();
    demo.is_back();
    until(
        "nothing on the hub tells of the old place",
        PATIENCE,
        || {
            let (namespace, web) = (demo.namespace(), demo.web());
            let forgotten = [&namespace, &web]
                .iter()
                .all(|object| !object["metadata"].to_string().contains(from.as_str()));
            ok_if(forgotten, &json!([namespace, web]))
        },
    );
    until("nothing runs in the cluster that is back", PATIENCE, || {
        if let Some(ended) = lost.ended() {
            panic!("{ended}");
        }
        // A pod that is asked to end does, once its node is looked after again.
        let all = ["get", "deployments,replicasets,pods", "--all-namespaces"];
        let left = lost.kubectl().json(&all);
        let mut left = left["items"].as_array().into_iter().flatten();
        let stays = left.find(|object| object["metadata"]["deletionTimestamp"].is_null());
        ok_if(stays.is_none(), stays.unwrap_or(&Value::Null))
    });
    assert_eq!(upstreams(&lost), [""; 0]);
    assert_eq!(upstreams(&heir), [FIRST, SECOND]);
    let stayed = is_settled(&heir, FIRST).expect("it runs as it did");
    for field in ["uid", "resourceVersion"] {
        let [before, after] = [&settled, &stayed].map(|copy| &copy["metadata"][field]);
        assert_eq!(before, after, "{field} of the copy: nobody touched it");
    }
    is_stable(&mut web, &demo.web(), &moved);
    assert_eq!(demo.web()["metadata"]["uid"], uid);
    assert_eq!(places(&mut placement), [json!([from]), json!([to])]);

    heir.kill();
    demo.is_given_up("cluster-2");
    until("it runs in the cluster that is left", PATIENCE, || {
        is_settled(&lost, FIRST)
    });
}

/// Two clusters that no other test uses.
fn two_clusters() -> [Real; 2] {
    std::thread::scope(|scope| {
        let starting = ["lost", "heir"].map(|role| scope.spawn(move || Real::start(role)));
        starting.map(|starting| match starting.join() {
            Ok(Ok(real)) => real,
            Ok(Err(why)) => panic!("no real cluster: {why}"),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// The quickstart with its two samples running.
struct Demo {
    hub: Hub,
    /// Names of the SyncTargets.
    targets: [String; 2],
    /// Their keys.
    keys: [String; 2],
}

impl Demo {
    fn start(first: &Real, second: &Real) -> Self {
        let hub = Hub::quickstart(&[first.kubeconfig_file(), second.kubeconfig_file()]);
        for namespace in [FIRST, SECOND] {
            until("a sample is available", PATIENCE, || {
                is_true(&sample(&hub, namespace), "Available")
                    .map_err(|why| format!("{why}\n{}", hub.log_tail()))
            });
        }
        let list = hub.kubectl(COMPUTE).json(&["get", "synctargets"]);
        let target = |cluster: &str| {
            let mut all = list["items"].as_array().into_iter().flatten();
            let found = all.find(|target| text(target, "/metadata/name").starts_with(cluster));
            let found = found.expect("a SyncTarget of each cluster");
            let key = &found["metadata"]["labels"][SYNC_TARGET_KEY_LABEL];
            [text(found, "/metadata/name"), key.as_str().unwrap()].map(str::to_owned)
        };
        let [[first, from], [second, to]] = ["cluster-1-", "cluster-2-"].map(target);
        Self {
            targets: [first, second],
            keys: [from, to],
            hub,
        }
    }

    /// What a user sets who does not want to wait for the default of five minutes: where else it may
    /// run, and how soon it is to leave. A cluster's owner says how soon it counts as lost.
    fn let_the_first_sample_move(&self) {
        let placement = json!({"spec": {
            "locationSelectors": [{"matchExpressions": [
                {"key": "location", "operator": "In", "values": ["cluster-1", "cluster-2"]},
            ]}],
            "tolerations": [{
                "key": TAINT_UNREACHABLE, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": 2,
            }],
        }});
        // Three intervals are more than the agent's former one: it does not miss a beat.
        let target = json!({"spec": {"syncerConfig": {"heartbeatInterval": "4s"}}});
        let patches = [
            (DEMO, "placements.scheduling.kcp.io", "cluster-1", placement),
            (COMPUTE, "synctargets", &self.targets[0], target),
        ];
        for (workspace, resource, name, patch) in patches {
            let patch = patch.to_string();
            let patch = ["patch", resource, name, "--type=merge", "-p", &patch];
            self.hub.kubectl(workspace).ok(&patch);
        }
    }

    /// The first sample on the hub.
    fn web(&self) -> Value {
        sample(&self.hub, FIRST)
    }

    fn namespace(&self) -> Value {
        let path = format!("/clusters/{DEMO}/api/v1/namespaces/{FIRST}");
        self.hub.api().get(&path).json()
    }

    /// The SyncTarget of the first cluster.
    fn target(&self) -> Value {
        let collection = "apis/workload.kcp.io/v1alpha1/synctargets";
        let path = format!("/clusters/{COMPUTE}/{collection}/{}", self.targets[0]);
        self.hub.api().get(&path).json()
    }

    fn is_lost(&self) {
        let target = until("the SyncTarget is not Ready", PATIENCE, || {
            let target = self.target();
            let lost = condition(&target, "Ready").is_some_and(|ready| ready["status"] == "False");
            ok_if(lost && is_tainted(&target), &target).map(|()| target)
        });
        let ready = condition(&target, "Ready").unwrap();
        assert_eq!(ready["reason"], "ErrorHeartbeat", "{ready}");
        let message = text(ready, "/message");
        assert!(message.starts_with("No heartbeat since 2"), "{ready}");
        assert_eq!(target["status"]["phase"], "NotReady");
    }

    /// A cluster that is dead for good is forgotten, whatever it still has.
    fn is_given_up(&self, cluster: &str) {
        let mut said = Transcript::new(&self.hub, COMPUTE);
        said.comment("The cluster does not answer any more, and never will again.");
        said.run(&["cluster", "unregister", cluster, "--force"]);
        said.comment("The hub knows nothing of it now.");
        said.run(&["cluster", "unregister", cluster, "--force"]);
        said.compare("unregister-force");
    }

    fn is_back(&self) {
        until("the SyncTarget is Ready again", PATIENCE, || {
            let target = self.target();
            is_true(&target, "Ready")?;
            ok_if(!is_tainted(&target), &target)
        });
    }
}

fn sample(hub: &Hub, namespace: &str) -> Value {
    let path = format!("/clusters/{DEMO}/apis/apps/v1/namespaces/{namespace}/deployments/web");
    hub.api().get(&path).json()
}

fn is_tainted(target: &Value) -> bool {
    let mut taints = target["spec"]["taints"].as_array().into_iter().flatten();
    taints.any(|taint| taint["key"] == TAINT_UNREACHABLE)
}

fn is_well(object: &Value) -> bool {
    is_true(object, "Available").is_ok()
}

/// A Deployment of the hub in a cluster.
#[derive(Debug)]
struct Copy {
    /// Its namespace on the hub.
    upstream: String,
    /// Its namespace in the cluster.
    namespace: String,
    object: Value,
}

/// All of them, by their namespaces on the hub.
fn copies(real: &Real) -> Vec<Copy> {
    let ours = |resource| {
        let args = ["get", resource, "-A", "-l", DOWNSTREAM_CLUSTER_LABEL];
        let list = real.kubectl().json(&args);
        list["items"].as_array().cloned().unwrap_or_default()
    };
    let (deployments, namespaces) = (ours("deployments"), ours("namespaces"));
    let upstream = |name: &str| {
        let mut named = namespaces.iter().map(|namespace| &namespace["metadata"]);
        let found = named.find(|meta| meta["name"] == name)?;
        let locator = found["annotations"][NAMESPACE_LOCATOR_ANNOTATION].as_str()?;
        Some(Locator::parse(locator).expect("a locator").namespace)
    };
    let copy = |object: Value| {
        let namespace = text(&object, "/metadata/namespace").to_owned();
        Copy {
            // One that nobody knows the place of counts, too.
            upstream: upstream(&namespace).unwrap_or_default(),
            namespace,
            object,
        }
    };
    let mut copies: Vec<Copy> = deployments.into_iter().map(copy).collect();
    copies.sort_by(|a, b| a.upstream.cmp(&b.upstream));
    copies
}

fn upstreams(real: &Real) -> Vec<String> {
    let copies = copies(real).into_iter();
    copies.map(|copy| copy.upstream).collect()
}

/// The only copy of a sample in a cluster, once its controllers have nothing more to say about it.
fn is_settled(real: &Real, upstream: &str) -> Result<Value, String> {
    let mut copies = copies(real);
    copies.retain(|copy| copy.upstream == upstream);
    let [Copy { object, .. }] = &*copies else {
        return Err(format!("{copies:?}"));
    };
    let status = &object["status"];
    let progress = condition(object, "Progressing").map(|c| text(c, "/reason"));
    let settled = status["availableReplicas"] == 2
        && status["observedGeneration"] == object["metadata"]["generation"]
        && progress == Some("NewReplicaSetAvailable");
    ok_if(settled && is_well(object), object).map(|()| object.clone())
}

/// What was watched was one object all the time, and well since it was `settled`.
fn is_stable(watched: &mut Watched, now: &Value, settled: &Value) {
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    let wanted = [settled, now].map(version);
    let events = until("all has been seen", PATIENCE, || {
        let events = watched.events();
        let seen: Vec<Value> = events.iter().map(|(_, object)| version(object)).collect();
        let all = wanted.iter().all(|version| seen.contains(version));
        ok_if(all, &json!({"seen": seen, "wanted": wanted})).map(|()| events)
    });
    for (at, (kind, object)) in events.iter().enumerate() {
        let wanted = if at == 0 { "ADDED" } else { "MODIFIED" };
        assert_eq!(kind, wanted, "{object}");
        assert_eq!(object["metadata"]["uid"], now["metadata"]["uid"]);
    }
    let before = |(_, object): &&(String, Value)| version(object) != version(settled);
    for (_, object) in events.iter().skip_while(before) {
        is_true(object, "Available").unwrap();
        assert_eq!(object["status"]["availableReplicas"], 2, "{object}");
    }
}

/// The places that a watched Placement had, one after the other.
fn places(placement: &mut Watched) -> Vec<Value> {
    let events = placement.events().into_iter();
    let mut places: Vec<Value> = events
        .map(|(_, placement)| {
            let targets = placement["status"]["syncTargets"].as_array();
            let targets = targets.into_iter().flatten();
            targets.map(|target| target["key"].clone()).collect()
        })
        .collect();
    places.dedup();
    places
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn ok_if(holds: bool, found: &Value) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(found.to_string())
    }
}
