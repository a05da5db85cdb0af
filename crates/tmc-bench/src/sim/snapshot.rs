//! Everything that invariants are about, read at one time past all wires.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use jiff::Timestamp;
use serde_json::Value;
use tmc_api::hashes::sync_target_key;
use tmc_apimachinery::meta::meta;
use tmc_runtime::ResourceClient;
use tmc_runtime::client::ListParams;

use super::disk::Line;
use super::fleet::{Fleet, Site};
use super::kept;
use super::process::{Process, kinds};

/// Where ConfigMaps are kept.
const CONFIG_MAPS: &str = "core/configmaps/";
/// Label of the ConfigMaps that record what a removal left in a member.
const TOMBSTONE_LABEL: &str = "tmc.kcp.io/tombstone";
/// Where Events are kept.
pub(crate) const EVENTS: &str = "core/events/";

/// An object of a user on the hub.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// Plural resource.
    pub(crate) resource: &'static str,
    pub(crate) object: Value,
}

/// What a member holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct InMember {
    pub(crate) namespaces: Vec<Value>,
    pub(crate) work: Vec<Work>,
    /// What of strangers is not as it was.
    pub(crate) disturbed: Vec<String>,
}

/// The hub and its members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) now: Timestamp,
    pub(crate) targets: Vec<Value>,
    pub(crate) clusters: Vec<Value>,
    pub(crate) locations: Vec<Value>,
    pub(crate) placements: Vec<Value>,
    pub(crate) namespaces: Vec<Value>,
    pub(crate) work: Vec<Work>,
    /// Names of user workspaces by logical cluster.
    pub(crate) teams: BTreeMap<String, String>,
    /// The uids of SyncTargets that went without their member, as an Event or their user says.
    pub(crate) left_behind: BTreeSet<String>,
    /// By the name of the member.
    pub(crate) members: BTreeMap<String, InMember>,
}

impl Snapshot {
    /// Reads everything.
    pub(crate) async fn take(hub: &Process, fleet: &Fleet, now: Timestamp) -> Result<Self> {
        let admin = hub.admin();
        let all = |gvr| items(Process::client(&admin, "*", gvr));
        let mut work = Vec::new();
        for gvr in [kinds::DEPLOYMENTS, kinds::CONFIG_MAPS] {
            let objects = all(gvr).await?;
            work.extend(objects.into_iter().map(|object| Work {
                resource: gvr.2,
                object,
            }));
        }
        let mut members = BTreeMap::new();
        for site in fleet.sites() {
            members.insert(site.name.to_owned(), in_member(site).await?);
        }
        Ok(Self {
            now,
            left_behind: BTreeSet::new(),
            targets: all(kinds::SYNC_TARGETS).await?,
            clusters: all(kinds::CLUSTERS).await?,
            locations: all(kinds::LOCATIONS).await?,
            placements: all(kinds::PLACEMENTS).await?,
            namespaces: all(kinds::NAMESPACES).await?,
            work,
            teams: BTreeMap::new(),
            members,
        })
    }

    /// The target of a key.
    pub(crate) fn target(&self, key: &str) -> Option<&Value> {
        self.targets.iter().find(|target| target_key(target) == key)
    }
}

/// The SyncTargetKey of a SyncTarget.
pub(crate) fn target_key(target: &Value) -> String {
    sync_target_key(meta(target).cluster(), meta(target).name())
}

/// The uids of SyncTargets that left copies in their member: as the hub's records of removals say, or
/// because a user wanted them to stay.
pub(crate) fn left_behind(log: &[Line]) -> BTreeSet<String> {
    let records = log.iter().filter(|line| line.key.starts_with(CONFIG_MAPS));
    let records = records
        .filter_map(|line| serde_json::from_slice::<Value>(&line.value).ok())
        .filter(|object| meta(object).label(TOMBSTONE_LABEL).is_some());
    let told = records.filter_map(|record| Some(record["data"]["uid"].as_str()?.to_owned()));
    told.chain(kept::keepers(log)).collect()
}

async fn items(client: ResourceClient) -> Result<Vec<Value>> {
    let mut list = client.list("", &ListParams::default()).await?;
    match list["items"].take() {
        Value::Array(items) => Ok(items),
        _ => Ok(Vec::new()),
    }
}

/// Reads what a member holds, past all wires.
pub(crate) async fn in_member(site: &Site) -> Result<InMember> {
    let all = |gvr: super::process::Gvr| items(site.member.resource(gvr.0, gvr.1, gvr.2));
    let mut work = Vec::new();
    for gvr in [kinds::DEPLOYMENTS, kinds::CONFIG_MAPS] {
        let objects = all(gvr).await?;
        work.extend(objects.into_iter().map(|object| Work {
            resource: gvr.2,
            object,
        }));
    }
    Ok(InMember {
        namespaces: all(kinds::NAMESPACES).await?,
        work,
        disturbed: site.disturbed_strangers().await,
    })
}
