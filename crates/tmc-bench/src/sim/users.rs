//! What users and the platform team do: a seeded workload over small pools of names, so that things
//! are made, changed, removed and made again under each other's hands.

mod platform;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tmc::cli::Role;
use tmc::commands::workspace::{Grantee, create, give};
use tmc::context::Context;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::user::UserInfo;
use tmc_runtime::client::{DeleteParams, Error, PatchKind};
use tmc_runtime::{Clock, Connection, ResourceClient};

use super::chance::Chance;
use super::disk::Disk;
use super::fleet::Fleet;
use super::kept::AllKept;
use super::process::{Ground, Gvr, Process, kinds};
use super::trace::Trace;

/// Where clusters are registered.
pub(crate) const COMPUTE: &str = "root:compute";
/// Workspaces of users.
pub(crate) const TEAMS: [&str; 2] = ["team-a", "team-b"];
/// Annotation of every object of a user: workspace, namespace and name that it was made with.
pub(crate) const ORIGIN: &str = "sim.example.com/origin";
/// The user, who has no special rights.
const USER: &str = "alice";
/// Label of namespaces that some Placements select by.
const TIER: &str = "tier";

/// The people of a run.
#[derive(Clone)]
pub(crate) struct Users {
    chance: Chance,
    clock: Clock,
    trace: Trace,
    disk: Disk,
    kept: AllKept,
}

/// A place for an object of a user.
struct Spot {
    team: &'static str,
    namespace: String,
    name: String,
}

/// What was done to which object.
type Done = Result<String, Error>;

impl Users {
    pub(crate) fn new(ground: &Ground) -> Self {
        Self {
            chance: ground.chance.fork("users"),
            clock: ground.clock.clone(),
            trace: ground.trace.clone(),
            disk: ground.disk.clone(),
            kept: ground.kept.clone(),
        }
    }

    /// The state in which a run begins: workspaces, rights, registered members with Locations.
    pub(crate) async fn set_up(&self, hub: &Process, fleet: &Fleet) -> Result<()> {
        let context = |workspace: &str| Context {
            connection: hub.admin(),
            file: "unused".into(),
            workspace: workspace.to_owned(),
            workspaces: true,
        };
        for team in TEAMS {
            create(&context("root"), team, false).await?;
            let path = format!("root:{team}");
            let user = Grantee::User(USER.to_owned());
            give(&context(&path), &path, &user, Role::Admin).await?;
            let workspace = Grantee::Workspace(path);
            give(&context(COMPUTE), COMPUTE, &workspace, Role::Use).await?;
        }
        for site in fleet.sites() {
            platform::register(&hub.admin(), site)
                .await
                .with_context(|| format!("{} cannot be registered", site.name))?;
        }
        Ok(())
    }

    /// What each team begins with.
    pub(crate) async fn begin(&self, hub: &Process) {
        for team in TEAMS {
            let client = |gvr| client(&user(hub), team, gvr);
            let begun = async {
                for name in ["n0", "n1"] {
                    let tier = if self.chance.happens(500) {
                        "gold"
                    } else {
                        "base"
                    };
                    client(kinds::NAMESPACES)
                        .create("", &namespace(name, tier))
                        .await?;
                }
                let all = placement("p0", &json!({}), &json!([{}]));
                client(kinds::PLACEMENTS).create("", &all).await
            };
            let done: Result<Value, Error> = begun.await;
            if let Err(error) = done {
                self.trace
                    .violation(&format!("a team cannot begin: {error}"));
            }
        }
    }

    /// A Placement, a namespace and a Deployment, for a run in which nothing else happens.
    pub(crate) async fn simple_work(&self, hub: &Process) -> Result<()> {
        let user = user(hub);
        let team = TEAMS[0];
        let client = |gvr| client(&user, team, gvr);
        client(kinds::PLACEMENTS)
            .create("", &placement("p0", &json!({}), &json!([{}])))
            .await?;
        client(kinds::NAMESPACES)
            .create("", &namespace("n0", "gold"))
            .await?;
        let spot = Spot {
            team,
            namespace: "n0".to_owned(),
            name: "d0".to_owned(),
        };
        client(kinds::DEPLOYMENTS)
            .create("n0", &deployment(&spot, 2, "v1"))
            .await?;
        Ok(())
    }

    /// One thing that somebody does. That it fails is part of life.
    pub(crate) async fn act(&self, hub: &Process, fleet: &Fleet) {
        let done = match self.chance.below(110) {
            100..=101 => self.unregister(hub, fleet).await,
            102..=103 => self.register_again(hub, fleet).await,
            104..=106 => self.rotate(hub, fleet).await,
            107..=109 => self.break_secret(hub, fleet).await,
            0..=19 => self.make_deployment(hub).await,
            20..=29 => self.make_config_map(hub).await,
            30..=49 => self.change_deployment(hub).await,
            50..=59 => self.change_config_map(hub).await,
            60..=64 => self.remove(hub, kinds::DEPLOYMENTS, "d").await,
            65..=67 => self.remove(hub, kinds::CONFIG_MAPS, "c").await,
            68..=75 => self.make_namespace(hub).await,
            76..=77 => self.remove_namespace(hub).await,
            78..=85 => self.make_placement(hub).await,
            86..=87 => self.remove_placement(hub).await,
            88..=92 => self.cordon(hub).await,
            93..=95 => self.drain(hub).await,
            _ => self.write_from_old_knowledge(hub).await,
        };
        self.trace.note(|| match done {
            Ok(done) => format!("user: {done}"),
            Err(error) => format!("user: refused: {error}"),
        });
    }

    fn team(&self) -> &'static str {
        self.chance.pick(&TEAMS).copied().unwrap_or(TEAMS[0])
    }

    fn name(&self, prefix: &str, count: u64) -> String {
        format!("{prefix}{}", self.chance.below(count))
    }

    fn spot(&self, prefix: &str) -> Spot {
        Spot {
            team: self.team(),
            namespace: self.name("n", 3),
            name: self.name(prefix, 3),
        }
    }

    async fn make_deployment(&self, hub: &Process) -> Done {
        let spot = self.spot("d");
        let replicas = 1 + self.chance.below(3);
        let object = deployment(&spot, replicas, "v1");
        let client = client(&user(hub), spot.team, kinds::DEPLOYMENTS);
        client.create(&spot.namespace, &object).await?;
        Ok(format!("made Deployment {}", spot.origin()))
    }

    async fn make_config_map(&self, hub: &Process) -> Done {
        let spot = self.spot("c");
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": spot.name, "annotations": {ORIGIN: spot.origin()}},
            "data": {"number": self.chance.below(1000).to_string()},
        });
        let client = client(&user(hub), spot.team, kinds::CONFIG_MAPS);
        client.create(&spot.namespace, &object).await?;
        Ok(format!("made ConfigMap {}", spot.origin()))
    }

    async fn change_deployment(&self, hub: &Process) -> Done {
        let spot = self.spot("d");
        let patch = if self.chance.happens(500) {
            json!({"spec": {"replicas": 1 + self.chance.below(3)}})
        } else {
            let image = format!("v{}", self.chance.below(5));
            json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
        };
        self.patch(hub, kinds::DEPLOYMENTS, &spot, &patch).await
    }

    async fn change_config_map(&self, hub: &Process) -> Done {
        let spot = self.spot("c");
        let patch = json!({"data": {"number": self.chance.below(1000).to_string()}});
        self.patch(hub, kinds::CONFIG_MAPS, &spot, &patch).await
    }

    async fn patch(&self, hub: &Process, gvr: Gvr, spot: &Spot, patch: &Value) -> Done {
        let client = client(&user(hub), spot.team, gvr);
        let (namespace, name) = (&spot.namespace, &spot.name);
        client
            .patch(namespace, name, "", PatchKind::Merge, patch)
            .await?;
        Ok(format!("changed {} {}: {patch}", gvr.2, spot.origin()))
    }

    async fn remove(&self, hub: &Process, gvr: Gvr, prefix: &str) -> Done {
        let spot = self.spot(prefix);
        let client = client(&user(hub), spot.team, gvr);
        client
            .delete(&spot.namespace, &spot.name, &DeleteParams::default())
            .await?;
        Ok(format!("removed {} {}", gvr.2, spot.origin()))
    }

    async fn make_namespace(&self, hub: &Process) -> Done {
        let (team, name) = (self.team(), self.name("n", 3));
        let tier = if self.chance.happens(500) {
            "gold"
        } else {
            "base"
        };
        client(&user(hub), team, kinds::NAMESPACES)
            .create("", &namespace(&name, tier))
            .await?;
        Ok(format!("made namespace {team}/{name} of tier {tier}"))
    }

    async fn remove_namespace(&self, hub: &Process) -> Done {
        let (team, name) = (self.team(), self.name("n", 3));
        client(&user(hub), team, kinds::NAMESPACES)
            .delete("", &name, &DeleteParams::default())
            .await?;
        Ok(format!("removed namespace {team}/{name}"))
    }

    async fn make_placement(&self, hub: &Process) -> Done {
        let (team, name) = (self.team(), self.name("p", 2));
        let namespaces = match self.chance.below(3) {
            0 => json!({}),
            1 => json!({"matchLabels": {TIER: "gold"}}),
            _ => json!({"matchLabels": {TIER: "base"}}),
        };
        let locations = match self.chance.below(3) {
            0 => json!([{"matchLabels": {"location": "east"}}]),
            _ => json!([{}]),
        };
        let mut object = placement(&name, &namespaces, &locations);
        object["spec"]["targets"] = match self.chance.below(4) {
            0 => json!(2),
            1 => json!("All"),
            _ => json!(1),
        };
        if self.chance.happens(500) {
            object["spec"]["replicas"] = "Divided".into();
        }
        client(&user(hub), team, kinds::PLACEMENTS)
            .create("", &object)
            .await?;
        Ok(format!("made Placement {team}/{name}: {}", object["spec"]))
    }

    async fn remove_placement(&self, hub: &Process) -> Done {
        let (team, name) = (self.team(), self.name("p", 2));
        client(&user(hub), team, kinds::PLACEMENTS)
            .delete("", &name, &DeleteParams::default())
            .await?;
        Ok(format!("removed Placement {team}/{name}"))
    }

    async fn cordon(&self, hub: &Process) -> Done {
        let patch = json!({"spec": {"unschedulable": self.chance.happens(500)}});
        self.patch_target(hub, &patch).await
    }

    async fn drain(&self, hub: &Process) -> Done {
        let at = self.clock.now();
        let when = if self.chance.happens(500) {
            json!(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        } else {
            Value::Null
        };
        self.patch_target(hub, &json!({"spec": {"evictAfter": when}}))
            .await
    }

    async fn patch_target(&self, hub: &Process, patch: &Value) -> Done {
        let targets = Process::client(&hub.admin(), COMPUTE, kinds::SYNC_TARGETS);
        let list = targets.list("", &Default::default()).await?;
        let names: Vec<&str> = list["items"]
            .as_array()
            .map(|items| items.iter().map(|target| meta(target).name()).collect())
            .unwrap_or_default();
        let Some(name) = self.chance.pick(&names) else {
            return Ok("found no SyncTarget".to_owned());
        };
        targets.patch("", name, "", PatchKind::Merge, patch).await?;
        Ok(format!("changed SyncTarget {name}: {patch}"))
    }

    /// Reads, lets others write, and writes the whole object back: right or a conflict, but nothing
    /// of the system's is lost.
    async fn write_from_old_knowledge(&self, hub: &Process) -> Done {
        let spot = self.spot("d");
        let client = client(&user(hub), spot.team, kinds::DEPLOYMENTS);
        let mut object = client.get(&spot.namespace, &spot.name).await?;
        tokio::time::sleep(
            self.chance
                .between(std::time::Duration::ZERO, std::time::Duration::from_secs(2)),
        )
        .await;
        object["spec"]["replicas"] = (1 + self.chance.below(3)).into();
        if self.chance.happens(500) {
            // As `kubectl replace` of a file does: only what the user knows of.
            object["metadata"] = json!({
                "name": spot.name, "annotations": {ORIGIN: spot.origin()},
            });
            if let Some(members) = object.as_object_mut() {
                members.remove("status");
            }
        }
        client
            .replace(&spot.namespace, &spot.name, "", &object)
            .await?;
        Ok(format!("replaced Deployment {}", spot.origin()))
    }
}

impl Spot {
    fn origin(&self) -> String {
        format!("{}/{}/{}", self.team, self.namespace, self.name)
    }
}

fn user(hub: &Process) -> Connection {
    let groups = ["system:authenticated"];
    hub.core.connection_as(UserInfo::new(USER, &groups))
}

fn client(user: &Connection, team: &str, gvr: Gvr) -> ResourceClient {
    Process::client(user, &format!("root:{team}"), gvr)
}

fn namespace(name: &str, tier: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {TIER: tier}},
    })
}

fn placement(name: &str, namespaces: &Value, locations: &Value) -> Value {
    json!({
        "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Placement",
        "metadata": {"name": name},
        "spec": {
            "locationResource": {"group": "workload.kcp.io", "version": "v1alpha1",
                                 "resource": "synctargets"},
            "locationWorkspace": COMPUTE,
            "locationSelectors": locations, "namespaceSelector": namespaces,
        },
    })
}

fn deployment(spot: &Spot, replicas: u64, image: &str) -> Value {
    let name = &spot.name;
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "annotations": {ORIGIN: spot.origin()}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": image}]}}},
    })
}
