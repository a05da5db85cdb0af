//! The members of a run, with the strangers planted in them.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tmc::assembly::members::Members;
use tmc_apimachinery::meta::meta;
use tmc_runtime::Connection;
use tmc_sim::{Behaviour, Member};

use super::process::{Ground, Gvr, kinds};

/// Names of members; a target's name starts with its member's and a dash.
const NAMES: [&str; 4] = ["east", "north", "south", "west"];
/// Namespace, and start of the name, of what belongs to others.
const STRANGER: &str = "stranger";

/// A certificate for kubeconfigs, which have to name one; nobody checks it. Its key is thrown away.
const AUTHORITY: &str = include_str!("authority.pem");

/// A way into a member: an address and a credential.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Door {
    #[default]
    Front,
    Back,
}

impl Door {
    pub(crate) const ALL: [Self; 2] = [Self::Front, Self::Back];
}

/// A member and how it is reached.
pub(crate) struct Site {
    pub(crate) name: &'static str,
    pub(crate) member: Member,
    /// The tokens of its doors.
    tokens: [String; 2],
    strangers: Vec<(Gvr, Value)>,
}

impl Site {
    async fn start(ground: &Ground, name: &'static str) -> Result<Self> {
        let chance = ground.chance.fork(&format!("member/{name}"));
        let member = Member::start(
            ground.member_environment(name),
            Behaviour {
                nodes: 2,
                ready_after: chance.between(Duration::from_millis(100), Duration::from_secs(8)),
                failure: None,
                jitter: chance.jitter(),
            },
        )
        .await?;
        let mut site = Self {
            name,
            member,
            tokens: [chance.uid(), chance.uid()],
            strangers: Vec::new(),
        };
        site.plant_strangers().await?;
        Ok(site)
    }

    /// Objects of somebody else, some of them much like ours.
    async fn plant_strangers(&mut self) -> Result<()> {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": STRANGER},
        });
        let labelled = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "stranger-settings",
                "labels": {"internal.workload.kcp.io/cluster": "somebody-elses-target"}},
            "data": {"owner": "somebody else"},
        });
        let workload = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "stranger-web"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "stranger"}},
                "template": {"metadata": {"labels": {"app": "stranger"}},
                    "spec": {"containers": [{"name": "c", "image": "theirs"}]}}},
        });
        let plants = [
            (kinds::NAMESPACES, "", namespace),
            (kinds::CONFIG_MAPS, STRANGER, labelled),
            (kinds::DEPLOYMENTS, STRANGER, workload),
        ];
        for (kind, namespace, object) in plants {
            let client = self.member.resource(kind.0, kind.1, kind.2);
            let made = client.create(namespace, &object).await?;
            self.strangers.push((kind, made));
        }
        Ok(())
    }

    /// What of the strangers is not as it was.
    pub(crate) async fn disturbed_strangers(&self) -> Vec<String> {
        let mut disturbed = Vec::new();
        for (kind, planted) in &self.strangers {
            let client = self.member.resource(kind.0, kind.1, kind.2);
            let at = meta(planted);
            let found = client.get(at.namespace(), at.name()).await;
            let same = found.is_ok_and(|found| {
                meta(&found).uid() == at.uid()
                    && meta(&found).labels() == at.labels()
                    && meta(&found).generation() == at.generation()
                    && found["data"] == planted["data"]
            });
            if !same {
                disturbed.push(format!("{}: {} {}", self.name, kind.2, at.name()));
            }
        }
        disturbed
    }

    /// Makes it reachable for a hub process over a wire.
    pub(crate) fn add_to(&self, members: &Members, wire: &Connection) {
        for door in Door::ALL {
            self.open(door, members, wire);
        }
    }

    /// The kubeconfig of a door.
    pub(crate) fn kubeconfig(&self, door: Door) -> String {
        self.open(door, &Members::default(), self.member.connection())
    }

    /// A kubeconfig whose token is not, or no longer, of the member.
    pub(crate) fn refused_kubeconfig(&self) -> String {
        self.kubeconfig(Door::Front)
            .replace(self.token(Door::Front), "withdrawn")
    }

    /// Opens a door; gives the kubeconfig for it.
    fn open(&self, door: Door, members: &Members, wire: &Connection) -> String {
        let token = self.token(door).to_owned();
        let host = match door {
            Door::Front => self.name.to_owned(),
            Door::Back => format!("{}-back", self.name),
        };
        members.add_with_token(&host, wire.clone(), AUTHORITY, token)
    }

    fn token(&self, door: Door) -> &str {
        let [front, back] = &self.tokens;
        match door {
            Door::Front => front,
            Door::Back => back,
        }
    }
}

/// All members of a run.
pub(crate) struct Fleet(Vec<Site>);

impl Fleet {
    /// Starts `count` members, at most four.
    pub(crate) async fn start(ground: &Ground, count: usize) -> Result<Self> {
        let mut sites = Vec::new();
        for name in NAMES.into_iter().take(count) {
            sites.push(Site::start(ground, name).await?);
        }
        Ok(Self(sites))
    }

    pub(crate) fn sites(&self) -> &[Site] {
        &self.0
    }

    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|site| site.name).collect()
    }
}
