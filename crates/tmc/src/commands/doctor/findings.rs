//! What is wrong, from what was read: pure functions.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tmc_api::keys::{PATH_ANNOTATION, SYNCER_FINALIZER_PREFIX};
use tmc_api::scheduling::reason;
use tmc_api::workload::reason as target_reason;
use tmc_apimachinery::meta::meta;

use crate::commands::sync;
use crate::context::Flags;
use crate::output::{self, ago, list, reason_and_message, reason_without_remedy, text};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// Checked, and well.
    Well,
    /// Not checked, and why; or worth knowing.
    Note,
    /// Wrong.
    Bad,
}

impl Mark {
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Well => "✓",
            Self::Note => "!",
            Self::Bad => "✗",
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Well => "Well",
            Self::Note => "Note",
            Self::Bad => "Bad",
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) mark: Mark,
    /// What it is about: `hub`, `synctarget east`.
    pub(super) about: String,
    pub(super) text: String,
    /// What to do; empty if nothing.
    pub(super) remedy: String,
}

impl Finding {
    pub(super) fn well(about: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(Mark::Well, about, text, String::new())
    }

    pub(super) fn note(
        about: impl Into<String>,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Mark::Note, about, text, remedy.into())
    }

    pub(super) fn bad(
        about: impl Into<String>,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Mark::Bad, about, text, remedy.into())
    }

    fn new(mark: Mark, about: impl Into<String>, text: impl Into<String>, remedy: String) -> Self {
        Self {
            mark,
            about: about.into(),
            text: text.into(),
            remedy,
        }
    }
}

/// The workspace of an object as far as it tells, for the flag `--workspace`.
fn workspace_of(object: &Value) -> &str {
    let meta = meta(object);
    meta.annotation(PATH_ANNOTATION)
        .unwrap_or_else(|| meta.cluster())
}

/// Where the doctor looks from.
#[derive(Clone, Debug)]
pub(super) struct Here {
    /// The workspace that it was called for.
    pub(super) workspace: String,
    /// What leads a recommended command to a workspace.
    pub(super) flags: Flags,
}

impl Here {
    /// The flag that leads to an object's workspace, with a blank after it; nothing where none is
    /// needed.
    fn flag(&self, object: &Value) -> String {
        self.flags.to(workspace_of(object))
    }

    /// `workspace/` of an object elsewhere.
    pub(super) fn prefix(&self, object: &Value) -> String {
        match workspace_of(object) {
            "" => String::new(),
            workspace if workspace == self.workspace => String::new(),
            workspace => format!("{workspace}/"),
        }
    }
}

/// How far clocks may be apart: an agent whose beats come from further ahead is not believed.
const MAX_SKEW: SignedDuration = SignedDuration::from_secs(5);

/// The difference between this machine's clock and the hub's `Date`, which has whole seconds and is
/// from some moment between `before` and `after`.
pub(super) fn clock(date: Timestamp, before: Timestamp, after: Timestamp) -> Finding {
    let latest = date + SignedDuration::from_secs(1);
    let (ahead, behind) = (before.duration_since(latest), date.duration_since(after));
    let apart = ahead.max(behind).max(SignedDuration::ZERO);
    if apart <= MAX_SKEW {
        return Finding::well("clock", "this machine and the hub agree on the time");
    }
    let direction = if ahead > behind { "ahead of" } else { "behind" };
    Finding::bad(
        "clock",
        format!("this machine is {} s {direction} the hub", apart.as_secs()),
        "synchronise both with a time server: certificates, tokens and beats depend on it",
    )
}

/// How soon an end is near.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The end of the credential in the user's kubeconfig; `whole` is how long it is good in all.
pub(super) fn own_credential(ends: Timestamp, whole: SignedDuration, now: Timestamp) -> Finding {
    let remedy = "get a new kubeconfig from whoever runs the hub: tmc workspace kubeconfig, or start \
                  the hub again for admin.kubeconfig";
    let left = ends.duration_since(now);
    if left.is_negative() {
        let text = format!("your credential ended {} ago", ago(ends, now));
        return Finding::bad("credential", text, remedy);
    }
    let in_words = tmc_apimachinery::table::human_duration(left.as_secs());
    // A credential made for a day is not near its end as soon as it is made.
    if left < SOON.min(whole / 5) {
        return Finding::note(
            "credential",
            format!("your credential ends in {in_words}"),
            remedy,
        );
    }
    Finding::well(
        "credential",
        format!("yours is good for another {in_words}"),
    )
}

/// SyncTargets that are not Ready, and why. One finding for all that are.
pub(super) fn targets(targets: &[Value], here: &Here, now: Timestamp) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut ready = 0_usize;
    for target in targets {
        let about = format!("synctarget {}{}", here.prefix(target), meta(target).name());
        let flag = here.flag(target);
        if meta(target).is_being_deleted() {
            found.extend(slow_deletion(target, &about, &flag, now));
        } else if output::condition(target, "Ready") == "True" {
            ready += 1;
        } else {
            found.push(not_ready(target, about, &flag, now));
        }
    }
    if ready > 0 {
        found.insert(0, Finding::well("synctargets", format!("{ready} Ready")));
    } else if targets.is_empty() {
        let remedy = "register a cluster: tmc cluster register NAME --member-kubeconfig FILE";
        found.push(Finding::note("synctargets", "there are none", remedy));
    }
    found
}

fn not_ready(target: &Value, about: String, flag: &str, now: Timestamp) -> Finding {
    let name = meta(target).name();
    let ready = output::find_condition(target, "Ready");
    let since = ready.and_then(|c| output::time(c, "/lastTransitionTime"));
    let since = since.map_or(String::new(), |at| format!(" for {}", ago(at, now)));
    let why = ready.map_or_else(|| "not looked at yet".to_owned(), reason_and_message);
    let external = text(target, "/spec/syncerConfig/mode") == "External";
    let never = output::time(target, "/status/lastHeartbeatTime").is_none();
    let remedy = match ready.map_or("", |c| text(c, "/reason")) {
        target_reason::ERROR_HEARTBEAT if external && never => sync::start_remedy(target, flag),
        target_reason::CLUSTER_NOT_FOUND => {
            format!("its Cluster is gone: tmc {flag}cluster unregister {name}")
        }
        target_reason::NO_ACCEPTED_APIS => {
            "the cluster serves none of the kinds that the hub syncs: install them there".to_owned()
        }
        _ => format!("see all its conditions: tmc {flag}cluster describe {name}"),
    };
    Finding::bad(about, format!("not Ready{since}: {why}"), remedy)
}

/// How long a deletion may take before somebody should look.
const PATIENCE: SignedDuration = SignedDuration::from_mins(5);

fn slow_deletion(object: &Value, about: &str, flag: &str, now: Timestamp) -> Option<Finding> {
    let asked: Timestamp = meta(object).deletion_timestamp().parse().ok()?;
    (now.duration_since(asked) > PATIENCE).then(|| {
        Finding::bad(
            about,
            format!("its removal has taken {} so far", ago(asked, now)),
            format!(
                "if the cluster is gone for good: tmc {flag}cluster unregister {} --force",
                meta(object).name()
            ),
        )
    })
}

/// Conditions of a Cluster that gate its Ready, in the order in which they depend on one another.
const GATES: [&str; 4] = [
    "CredentialsValid",
    "Connected",
    "CapabilitiesDiscovered",
    "RBACReady",
];

/// Clusters whose own part is not well (their SyncTargets speak for themselves), and credentials
/// that end.
pub(super) fn clusters(clusters: &[Value], here: &Here, now: Timestamp) -> Vec<Finding> {
    let mut found = Vec::new();
    for cluster in clusters {
        let name = meta(cluster).name();
        let about = format!("cluster {}{name}", here.prefix(cluster));
        let flag = here.flag(cluster);
        if meta(cluster).is_being_deleted() {
            found.extend(slow_deletion(cluster, &about, &flag, now));
            continue;
        }
        let gate = GATES
            .iter()
            .find(|gate| output::condition(cluster, gate) == "False");
        if let Some(condition) = gate.and_then(|gate| output::find_condition(cluster, gate)) {
            let remedy = cluster_remedy(text(condition, "/reason"), name, &flag);
            found.push(Finding::bad(&*about, reason_and_message(condition), remedy));
        }
        found.extend(expiry(cluster, about, &flag, now));
    }
    found
}

fn cluster_remedy(why: &str, name: &str, flag: &str) -> String {
    match why {
        target_reason::SECRET_NOT_FOUND
        | target_reason::INVALID_CREDENTIALS
        | target_reason::CREDENTIALS_EXPIRED
        | target_reason::CREDENTIALS_FORBIDDEN
        | target_reason::UNAUTHORIZED
        | target_reason::RBAC_FAILED => format!(
            "register it again with a good kubeconfig: tmc {flag}cluster register {name} \
             --member-kubeconfig FILE"
        ),
        target_reason::ENDPOINT_FORBIDDEN => {
            "the hub does not dial this address: register the cluster with one that other machines \
             reach, or start the hub on 127.0.0.1 only"
                .to_owned()
        }
        target_reason::CONNECTION_FAILED | target_reason::CONNECTION_TIMEOUT => {
            "see whether its API server runs and the hub's network reaches it".to_owned()
        }
        target_reason::TLS_ERROR => format!(
            "its certificate is not the one that was registered; if that is right: tmc {flag}cluster \
             register {name} --member-kubeconfig FILE"
        ),
        _ => format!("see all its conditions: tmc {flag}cluster describe {name}"),
    }
}

fn expiry(cluster: &Value, about: String, flag: &str, now: Timestamp) -> Option<Finding> {
    let current = output::find_condition(cluster, "CredentialsCurrent")?;
    if current["status"] != "False" {
        return None;
    }
    let ends = output::time(cluster, "/status/credentials/expirationTime");
    let left = ends.map(|ends| ends.duration_since(now).as_secs());
    let text = match left {
        Some(left) if left > 0 => {
            format!(
                "its credential ends in {}",
                tmc_apimachinery::table::human_duration(left)
            )
        }
        _ => reason_and_message(current),
    };
    let remedy = format!(
        "renew it: tmc {flag}cluster register {} --member-kubeconfig FILE",
        meta(cluster).name()
    );
    Some(Finding::note(about, text, remedy))
}

/// Placements without a place. One finding for all that have one.
pub(super) fn placements(placements: &[Value], here: &Here) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut placed = 0_usize;
    for placement in placements {
        let name = meta(placement).name();
        if output::condition(placement, "Scheduled") == "True" {
            placed += 1;
            continue;
        }
        let condition = output::find_condition(placement, "Scheduled");
        let why = condition.map_or_else(|| "not looked at yet".to_owned(), reason_without_remedy);
        let provider = match text(placement, "/spec/locationWorkspace") {
            "" => workspace_of(placement),
            path => path,
        };
        let remedy = match condition.map_or("", |c| text(c, "/reason")) {
            reason::LOCATION_FORBIDDEN => format!(
                "an administrator of {provider} can run: tmc workspace grant {provider} --workspace \
                 {} --role use",
                workspace_of(placement)
            ),
            reason::NO_VALID_TARGET | reason::QUOTA_EXCEEDED => {
                let flag = here.flags.to(provider);
                format!("see which clusters are fit: tmc {flag}get targets")
            }
            _ => format!("correct spec.locationSelectors, or have a Location made in {provider}"),
        };
        let about = format!("placement {}{name}", here.prefix(placement));
        found.push(Finding::bad(about, format!("has no place: {why}"), remedy));
    }
    if placed > 0 {
        found.insert(0, Finding::well("placements", format!("{placed} placed")));
    }
    found
}

/// SyncTargets whose agents cannot be expected to do anything, by key.
pub(super) fn lost(targets: &[Value]) -> BTreeMap<String, &Value> {
    let is_lost = |target: &&Value| output::condition(target, "Ready") != "True";
    let keyed = targets.iter().filter(is_lost).map(|target| {
        let meta = meta(target);
        (
            tmc_api::hashes::sync_target_key(meta.cluster(), meta.name()),
            target,
        )
    });
    keyed.collect()
}

/// Namespace and workspace of an object, in words.
fn place_of(object: &Value) -> String {
    let workspace = workspace_of(object);
    match meta(object).namespace() {
        "" => format!("workspace {workspace}"),
        namespace => format!("namespace {namespace} of workspace {workspace}"),
    }
}

/// Objects whose deletion waits for a lost target: one finding a target.
pub(super) fn stuck(
    objects: &[(String, Value)],
    lost: &BTreeMap<String, &Value>,
    here: &Here,
) -> Vec<Finding> {
    const SHOWN: usize = 3;
    let mut by_target: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (resource, object) in objects {
        let found = meta(object);
        if !found.is_being_deleted() {
            continue;
        }
        let keys = found
            .finalizers()
            .into_iter()
            .filter_map(|f| f.strip_prefix(SYNCER_FINALIZER_PREFIX));
        for key in keys.filter(|key| lost.contains_key(*key)) {
            let shown = format!("{resource}/{} in {}", found.name(), place_of(object));
            by_target.entry(key).or_default().insert(shown);
        }
    }
    let finding = |(key, objects): (&str, BTreeSet<String>)| {
        let target = lost.get(key)?;
        let name = meta(target).name();
        let first: Vec<&str> = objects.iter().take(SHOWN).map(String::as_str).collect();
        let more = match objects.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(Finding::bad(
            format!("synctarget {}{name}", here.prefix(target)),
            format!("holds up the deletion of {}{more}", first.join(", ")),
            format!(
                "bring the cluster back, or give it up for good: tmc {}cluster unregister {name} --force",
                here.flag(target)
            ),
        ))
    };
    by_target.into_iter().filter_map(finding).collect()
}

/// On a bare Kubernetes hub workload must not be run: signs of a workload controller at work.
pub(super) fn workload_controllers(
    deployments: &[Value],
    replica_sets: &[Value],
) -> Option<Finding> {
    const REVISION: &str = "deployment.kubernetes.io/revision";
    let revised = deployments
        .iter()
        .filter(|d| meta(d).annotation(REVISION).is_some())
        .map(|d| format!("deployment {}", meta(d).name()));
    let owned = replica_sets
        .iter()
        .filter(|r| {
            meta(r)
                .controller()
                .is_some_and(|c| c["kind"] == "Deployment")
        })
        .map(|r| format!("replicaset {}", meta(r).name()));
    let sign = revised.chain(owned).next()?;
    Some(Finding::bad(
        "hub",
        format!("its own workload controllers are active: they have worked on {sign}"),
        "run its kube-controller-manager without them, as docs/kubernetes-hub.md has it \
         (--controllers=*,-deployment-controller,-replicaset-controller,…): workload belongs to the \
         clusters",
    ))
}

/// Locations that contain nothing usable.
pub(super) fn locations(locations: &[Value], here: &Here) -> Vec<Finding> {
    let number =
        |location: &Value, pointer: &str| location.pointer(pointer).and_then(Value::as_u64);
    let empty = |location: &&Value| number(location, "/status/availableInstances") == Some(0);
    let finding = |location: &Value| {
        let all = number(location, "/status/instances").unwrap_or(0);
        Finding::note(
            format!(
                "location {}{}",
                here.prefix(location),
                meta(location).name()
            ),
            format!("none of its {all} SyncTargets can take workload"),
            format!("see why: tmc {}get targets", here.flag(location)),
        )
    };
    locations.iter().filter(empty).map(finding).collect()
}

/// The kubeconfig cannot be used; the remedy is given unless the error tells it.
pub(super) fn no_kubeconfig(why: String) -> Finding {
    let remedy = if why.contains("--kubeconfig") {
        ""
    } else {
        "name a kubeconfig of the hub with --kubeconfig or $KUBECONFIG"
    };
    Finding::bad("kubeconfig", why, remedy)
}

/// Only one workspace can be looked at.
pub(super) fn not_all_seen(here: &str) -> Finding {
    Finding::note(
        "scope",
        format!("you may look at workspace {here} only; others are not checked"),
        "",
    )
}

/// All can be looked at, on a hub with workspaces or without.
pub(super) fn all_seen(workspaces: bool) -> Finding {
    let what = if workspaces {
        "every workspace"
    } else {
        "everything"
    };
    Finding::well("rights", format!("you may look at {what}"))
}

/// What to do about a hub that does not answer.
pub(super) fn no_answer(workspaces: bool) -> &'static str {
    if workspaces {
        "start it (tmc start), or correct the server in the kubeconfig"
    } else {
        "start its API server, or correct the server in the kubeconfig"
    }
}

/// A list that may not be read on a hub without workspaces.
pub(super) fn forbidden_on_bare(what: &str) -> Finding {
    Finding::note(
        "rights",
        format!("you may not list {what}; they are not checked"),
        "an administrator of the hub can permit it: kubectl create clusterrolebinding",
    )
}

/// A list that may not be read.
pub(super) fn forbidden(what: &str, here: &str) -> Finding {
    Finding::note(
        "rights",
        format!("you may not list {what} in {here}; they are not checked"),
        format!(
            "an administrator of it can run: tmc workspace grant {here} --user <you> --role admin"
        ),
    )
}

/// The resources to look for stuck objects of a target: what it syncs and what every target has.
pub(super) fn resources_of(target: &Value) -> Vec<(String, String, String)> {
    let core = |resource: &str| (String::new(), "v1".to_owned(), resource.to_owned());
    let mut all: Vec<_> = ["configmaps", "secrets", "serviceaccounts"]
        .map(core)
        .to_vec();
    for synced in list(target, "/status/syncedResources") {
        let version = text(synced, "/versions/0");
        let one = (
            text(synced, "/group").to_owned(),
            version.to_owned(),
            text(synced, "/resource").to_owned(),
        );
        if !version.is_empty() && !all.contains(&one) {
            all.push(one);
        }
    }
    all
}
