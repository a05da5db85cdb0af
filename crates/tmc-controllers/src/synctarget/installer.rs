//! Installs and removes syncers in tasks of their own: a member that hangs holds up no worker and no
//! other target.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tmc_api::agent::kubeconfig::claims;
use tmc_api::agent::workload::{Workload, hub_token};
use tmc_api::agent::{AgentId, hub, member, removal_order};
use tmc_api::hashes::{Locator, base36_sha224, sync_target_key};
use tmc_api::keys::{DOWNSTREAM_CLUSTER_LABEL, NAMESPACE_LOCATOR_ANNOTATION};
use tmc_api::workload::SyncerConfig;
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::meta::meta;
use tmc_runtime::jitter::exponential;
use tmc_runtime::{ClusterKey, Connection, ResourceClient};
use tokio::time::Instant;

use super::mode::Part;
use crate::context::Context;
use crate::heartbeat::TargetId;
use crate::install::token::{self, Issued};
use crate::install::{Problem, Site};
use crate::slots::{Slots, Want};

/// Life asked for the tokens of an agent's account on the hub, in seconds.
const TOKEN_SECONDS: i64 = 24 * 3600;
/// How long one visit may take in all.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// How soon to look again while something is not as it should be, doubling up to [`INTERVAL`].
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// How often what is installed is compared with what should be.
const INTERVAL: Duration = Duration::from_secs(60);

/// A syncer to install.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    pub(crate) agent: AgentId,
    /// Namespace in the member.
    pub(crate) namespace: String,
    /// URL of the SyncTarget's workspace.
    pub(crate) hub_url: String,
    pub(crate) config: SyncerConfig,
    pub(crate) synced: Vec<GroupVersionResource>,
    /// The way into the member and its fingerprint; none for External.
    pub(crate) member: Option<(Connection, String)>,
}

impl Installation {
    /// What tells one installation from another.
    fn print(&self) -> String {
        let member = self.member.as_ref().map(|(_, print)| print);
        let config = serde_json::to_string(&self.config).unwrap_or_default();
        let parts = (&self.namespace, &self.hub_url, config, &self.synced, member);
        base36_sha224(&format!("{parts:?}"))
    }
}

/// How a Deployment is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// How many pods it should have.
    pub replicas: i32,
    /// How many are ready.
    pub ready_replicas: i32,
    /// The generation that its controller has seen.
    pub observed_generation: i64,
    /// Whether that is the current one, and all pods are of it.
    pub current: bool,
    /// Its controller has given up.
    pub stuck: bool,
}

impl Rollout {
    /// Reads a Deployment.
    pub fn of(deployment: &Value) -> Self {
        let status = &deployment["status"];
        let number = |value: &Value| value.as_i64().and_then(|n| i32::try_from(n).ok());
        let replicas = number(&deployment["spec"]["replicas"]).unwrap_or(1);
        let observed = status["observedGeneration"].as_i64().unwrap_or(0);
        let updated = number(&status["updatedReplicas"]).unwrap_or(0);
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let stuck = conditions
            .into_iter()
            .any(|c| c["type"] == "Progressing" && c["status"] == "False");
        Self {
            replicas,
            ready_replicas: number(&status["readyReplicas"]).unwrap_or(0),
            observed_generation: observed,
            current: observed >= meta(deployment).generation() && updated == replicas,
            stuck,
        }
    }

    /// At least one pod, all of them ready and of the current generation: 0 of 0 is not ready.
    pub fn is_ready(&self) -> bool {
        self.replicas >= 1 && self.ready_replicas == self.replicas && self.current
    }
}

/// How an installation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The rollout, where there is a Deployment; else nothing is left to do. The error says whether
    /// it was an answer, and what is wrong.
    pub outcome: Result<Option<Rollout>, (bool, String)>,
}

/// Why something is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// The mode has changed. Should the target be deleted before that is noted, it is served by the
    /// former mode once more, which makes all this anew.
    ModeChange,
    /// Nothing is made any more.
    End,
}

/// What is to be removed.
#[derive(Clone, Debug)]
pub(crate) struct Removal {
    pub(crate) agent: AgentId,
    pub(crate) occasion: Occasion,
    pub(crate) parts: Vec<Part>,
    pub(crate) member: Option<Connection>,
    /// The copies are gone: so are the namespaces they were in, which the agent, stopped with its
    /// last copy, had no time to remove.
    pub(crate) namespaces: bool,
}

/// What was removed last, and how that went.
struct Removed {
    occasion: Occasion,
    parts: Vec<Part>,
    /// There was a way into the member: without one, nothing was removed there.
    visited: bool,
    result: Result<Vec<String>, String>,
    /// How often it failed in a row.
    failures: u32,
    /// When it may be tried again after a failure.
    again: Instant,
}

impl Removed {
    fn answers(&self, what: &Removal) -> bool {
        (self.occasion, &self.parts) == (what.occasion, &what.parts)
            && self.visited == what.member.is_some()
    }

    /// Whether nothing else is to be found out now: what is done stays done, and a failure stands for
    /// a while, because whoever asks comes again as soon as it has written of it.
    fn stands(&self, now: Instant) -> bool {
        self.result.is_ok() || now < self.again
    }
}

/// What is known of one target's installation.
#[derive(Default)]
struct Job {
    print: String,
    running: bool,
    failures: u32,
    due: Option<Instant>,
    installed: Option<Arc<Installed>>,
    /// The agent's token, while this process made it.
    token: Option<Issued>,
    removed: Option<Removed>,
}

/// Installations by target.
#[derive(Default)]
pub(crate) struct Installer {
    jobs: Mutex<HashMap<TargetId, Job>>,
    slots: Slots,
}

/// What a reconcile gets to see of an installation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sight {
    pub(crate) installed: Option<Arc<Installed>>,
    pub(crate) next: Option<Duration>,
}

impl Installer {
    /// Gives how the installation is, and starts a visit if one is due. Its end wakes the target.
    pub(crate) fn install(&self, ctx: &Arc<Context>, id: &TargetId, wanted: Installation) -> Sight {
        let now = Instant::now();
        let mut jobs = self.jobs.lock();
        let job = jobs.entry(id.clone()).or_default();
        let print = wanted.print();
        if job.print != print {
            job.print = print;
            job.failures = 0;
            job.due = None;
            job.removed = None;
        }
        if !job.running && job.due.is_none_or(|due| due <= now) {
            job.running = true;
            // It may make anew what was removed.
            job.removed = None;
            let token = job.token.clone();
            tokio::spawn(visit(
                Arc::clone(ctx),
                id.clone(),
                wanted,
                job.print.clone(),
                token,
            ));
        }
        Sight {
            installed: job.installed.clone(),
            next: job.due.filter(|_| !job.running).map(|due| due - now),
        }
    }

    /// Removes parts, once; `None` while that runs. The error says what is wrong. Calling it again
    /// says the same, and some time after an error tries again.
    pub(crate) fn remove(
        &self,
        ctx: &Arc<Context>,
        id: &TargetId,
        what: Removal,
    ) -> Option<Result<Vec<String>, String>> {
        let mut jobs = self.jobs.lock();
        let job = jobs.entry(id.clone()).or_default();
        if job.running {
            return None;
        }
        let last = job.removed.as_ref().filter(|last| last.answers(&what));
        if let Some(last) = last.filter(|last| last.stands(Instant::now())) {
            return Some(last.result.clone());
        }
        // An installation that is asked for later starts anew.
        job.print.clear();
        job.installed = None;
        job.token = None;
        job.running = true;
        tokio::spawn(clear(Arc::clone(ctx), id.clone(), what));
        None
    }

    /// How the installation was seen last; starts nothing.
    pub(crate) fn last(&self, id: &TargetId) -> Option<Arc<Installed>> {
        self.jobs.lock().get(id)?.installed.clone()
    }

    /// Of how many targets something is known.
    pub(crate) fn count(&self) -> usize {
        self.jobs.lock().len()
    }

    /// Forgets a target.
    pub(crate) fn forget(&self, id: &TargetId) {
        self.jobs.lock().remove(id);
    }

    /// Forgets every target of which this says so.
    pub(crate) fn forget_all(&self, gone: impl Fn(&TargetId) -> bool) {
        self.jobs.lock().retain(|id, _| !gone(id));
    }

    fn settle(&self, ctx: &Context, id: &TargetId, print: &str, found: Found) {
        let mut jobs = self.jobs.lock();
        let Some(job) = jobs.get_mut(id) else {
            return;
        };
        job.running = false;
        if job.print != print {
            job.due = None;
            return;
        }
        let (outcome, token) = found;
        job.token = token;
        let settled = match &outcome {
            Ok(Some(rollout)) => rollout.is_ready(),
            Ok(None) => true,
            Err(_) => false,
        };
        let wait = if settled {
            job.failures = 0;
            INTERVAL
        } else {
            job.failures = job.failures.saturating_add(1);
            exponential(FIRST_RETRY, INTERVAL, job.failures - 1)
        };
        job.due = Some(Instant::now() + ctx.deps.jitter.stretch(wait, 20));
        job.installed = Some(Arc::new(Installed {
            outcome: outcome.map_err(|problem| (problem.is_answer(), problem.to_string())),
        }));
    }
}

type Found = (Result<Option<Rollout>, Problem>, Option<Issued>);

fn wake(ctx: &Context, id: &TargetId) {
    let key = ClusterKey::new(&id.cluster, "", &id.name);
    ctx.queues.sync_targets.add(key);
}

async fn visit(
    ctx: Arc<Context>,
    id: TargetId,
    wanted: Installation,
    print: String,
    token: Option<Issued>,
) {
    let mut token = token;
    let work = async {
        let installing = install(&ctx, &id, &wanted, &mut token);
        tokio::time::timeout(TIME_LIMIT, installing)
            .await
            .unwrap_or_else(|_| Err(too_slow()))
    };
    let outcome = ctx.installer.slots.within(Want::Arrange, work).await;
    ctx.installer.settle(&ctx, &id, &print, (outcome, token));
    wake(&ctx, &id);
}

fn too_slow() -> Problem {
    Problem::Unanswered {
        verb: "working in",
        what: format!("the member within {} s", TIME_LIMIT.as_secs()),
    }
}

async fn install(
    ctx: &Context,
    id: &TargetId,
    wanted: &Installation,
    token: &mut Option<Issued>,
) -> Result<Option<Rollout>, Problem> {
    let agent = &wanted.agent;
    let owned = |object: &Value| agent.owns(object);
    let hub = ctx.hub.cluster(&id.cluster);
    let on_hub = Site {
        client: hub.clone(),
        owned: &owned,
        given_namespace: None,
    };
    on_hub.ensure_all(&hub::manifests(agent)).await?;
    let Some((connection, _)) = &wanted.member else {
        return Ok(None);
    };
    let client = connection.base_client();
    let in_member = Site {
        client: client.clone(),
        owned: &owned,
        given_namespace: (wanted.namespace != agent.name()).then_some(&*wanted.namespace),
    };
    let mut manifests = member::manifests(agent, &wanted.namespace, &wanted.synced);
    let account = token::account_uid(&hub, hub::NAMESPACE, &agent.name()).await?;
    *token = token.take().filter(|token| token.is_of(&account));
    if token.is_none() {
        let stored = stored_token(&client, wanted).await?;
        *token = stored.filter(|token| token.is_of(&account));
    }
    let now = ctx.now();
    let issued = match token.clone().filter(|token| !token.is_due(now)) {
        Some(issued) => issued,
        None => token::request(&hub, hub::NAMESPACE, &agent.name(), TOKEN_SECONDS, now).await?,
    };
    let workload = Workload {
        agent,
        namespace: &wanted.namespace,
        hub: &wanted.hub_url,
        hub_ca: &ctx.deps.agents.hub_ca,
        token: &issued.token,
        config: &wanted.config,
        image: &ctx.deps.agents.image,
        // The hub puts a new one there in time.
        keeps_token: false,
    };
    manifests.extend(workload.manifests());
    *token = Some(issued);
    in_member.ensure_all(&manifests).await?;
    let deployments = GroupVersionResource::new("apps", "v1", "deployments");
    let name = agent.name();
    let deployment = ResourceClient::new(client, deployments)
        .get(&wanted.namespace, &name)
        .await
        .map_err(|error| Problem::of("reading", &format!("Deployment \"{name}\""), &error))?;
    Ok(Some(Rollout::of(&deployment)))
}

/// The token that the agent has, if it is for an account of its name: after a restart of the hub it is
/// used on instead of restarting every agent.
async fn stored_token(
    client: &kube::Client,
    wanted: &Installation,
) -> Result<Option<Issued>, Problem> {
    let secrets = GroupVersionResource::new("", "v1", "secrets");
    let name = wanted.agent.name();
    let secret = match ResourceClient::new(client.clone(), secrets)
        .get(&wanted.namespace, &name)
        .await
    {
        Ok(secret) => secret,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => {
            let what = format!("Secret \"{name}\"");
            return Err(Problem::of("reading", &what, &error));
        }
    };
    Ok(stored(&secret, &wanted.agent))
}

fn stored(secret: &Value, agent: &AgentId) -> Option<Issued> {
    let token = hub_token(secret).filter(|_| agent.owns(secret))?;
    let claims = claims(&token)?;
    let own = (&*claims.namespace, &*claims.account) == (hub::NAMESPACE, &*agent.name());
    let time = |seconds| Timestamp::from_second(seconds).ok();
    let (at, expires) = (time(claims.issued)?, time(claims.expires)?);
    // Somebody in the member may have put it there: one that lives longer than ours is not ours.
    let life = claims.expires.saturating_sub(claims.issued);
    (own && life <= TOKEN_SECONDS + 3600).then_some(Issued { token, at, expires })
}

async fn clear(ctx: Arc<Context>, id: TargetId, what: Removal) {
    let work = async {
        tokio::time::timeout(TIME_LIMIT, remove(&ctx, &id, &what))
            .await
            .unwrap_or_else(|_| Err(too_slow()))
    };
    let result = ctx.installer.slots.within(Want::Arrange, work).await;
    {
        let mut jobs = ctx.installer.jobs.lock();
        if let Some(job) = jobs.get_mut(&id) {
            job.running = false;
            job.due = None;
            let failed = job.removed.as_ref().filter(|last| last.answers(&what));
            let failures = failed.map_or(0, |last| last.failures);
            // Somebody waits for it, though not for ever.
            let wait = exponential(FIRST_RETRY, INTERVAL / 4, failures);
            job.removed = Some(Removed {
                occasion: what.occasion,
                visited: what.member.is_some(),
                parts: what.parts,
                result: result.map_err(|problem| problem.to_string()),
                failures: failures.saturating_add(1),
                again: Instant::now() + ctx.deps.jitter.stretch(wait, 20),
            });
        }
    }
    wake(&ctx, &id);
}

async fn remove(ctx: &Context, id: &TargetId, what: &Removal) -> Result<Vec<String>, Problem> {
    let agent = &what.agent;
    let owned = |object: &Value| agent.owns(object);
    let mut removed = Vec::new();
    if what.parts.contains(&Part::HubAccount) {
        let site = Site {
            client: ctx.hub.cluster(&id.cluster),
            owned: &owned,
            given_namespace: None,
        };
        let none_of = |gvr: &GroupVersionResource| {
            matches!(
                &*gvr.resource,
                "deployments" | "secrets" | "leases" | "namespaces"
            )
        };
        let (order, selector) = (removal_order(), agent.selector());
        removed.extend(site.remove(&order, &selector, none_of).await?);
    }
    let (account, workload) = (
        what.parts.contains(&Part::MemberAccount),
        what.parts.contains(&Part::Workload),
    );
    let Some(connection) = what.member.as_ref().filter(|_| account || workload) else {
        return Ok(removed);
    };
    let site = Site {
        client: connection.base_client(),
        owned: &owned,
        given_namespace: None,
    };
    let keep = |gvr: &GroupVersionResource| match &*gvr.resource {
        // In a member, an agent has Roles for its workload alone.
        "deployments" | "secrets" | "leases" | "roles" | "rolebindings" => !workload,
        _ => !account,
    };
    removed.extend(
        site.remove(&removal_order(), &agent.selector(), keep)
            .await?,
    );
    // Last: without its rights the agent makes none anew.
    if what.namespaces {
        let emptied = |namespace: &Value| is_namespace_of(namespace, id);
        let site = Site {
            client: connection.base_client(),
            owned: &emptied,
            given_namespace: None,
        };
        let key = sync_target_key(id.cluster.as_str(), &id.name);
        let selector = format!("{DOWNSTREAM_CLUSTER_LABEL}={key}");
        let namespaces = [GroupVersionResource::new("", "v1", "namespaces")];
        removed.extend(site.remove(&namespaces, &selector, |_| false).await?);
    }
    Ok(removed)
}

/// Whether a namespace of a member was made for exactly this target.
fn is_namespace_of(namespace: &Value, id: &TargetId) -> bool {
    let text = meta(namespace).annotation(NAMESPACE_LOCATOR_ANNOTATION);
    let locator = text.and_then(|text| Locator::parse(text).ok());
    locator.is_some_and(|locator| {
        let target = locator.sync_target;
        (&*target.cluster, &*target.name, &*target.uid)
            == (id.cluster.as_str(), &*id.name, &*id.uid)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;
    use tmc_api::hashes::SyncTargetLocator;

    use super::*;

    /// Everything that is made for an agent, in any mode.
    fn everything(agent: &AgentId) -> Vec<Value> {
        let workload = Workload {
            agent,
            namespace: "home",
            hub: "https://hub",
            hub_ca: b"CA",
            token: "t",
            config: &SyncerConfig::default(),
            image: "tmc:1",
            keeps_token: false,
        };
        let (mut all, in_member) = (hub::manifests(agent), member::manifests(agent, "home", &[]));
        all.extend(in_member);
        all.extend(workload.manifests());
        all
    }

    proptest! {
        /// What was made for the triple of workspace, name and uid is removed for no other, however
        /// alike; nothing is owned by an object of another API server, whose absence there would be
        /// taken for its end; objects without a namespace have names that other uids do not share.
        #[test]
        fn what_was_made_for_one_target_is_nobody_elses(
            one in any::<[u8; 3]>(), other in any::<[u8; 3]>(),
        ) {
            let part = |n: u8| ["a", "ab", "a-b", "b"][usize::from(n % 4)];
            let id = |[cluster, name, uid]: [u8; 3]| {
                TargetId::new(&tmc_apimachinery::ClusterName::new(part(cluster)), part(name), part(uid))
            };
            let (one, other) = (id(one), id(other));
            let agent = |id: &TargetId| AgentId::new(id.cluster.as_str(), &id.name, &id.uid);
            let theirs = everything(&agent(&other));
            for object in everything(&agent(&one)) {
                prop_assert_eq!(agent(&other).owns(&object), one == other);
                prop_assert!(object["metadata"].get("ownerReferences").is_none(), "{}", object);
                let taken = |their: &Value| {
                    (&their["kind"], meta(their).name()) == (&object["kind"], meta(&object).name())
                };
                let shared = meta(&object).namespace().is_empty() && theirs.iter().any(taken);
                prop_assert!(!shared || one.uid == other.uid || meta(&object).name() == "home");
            }
            let locator = Locator {
                sync_target: SyncTargetLocator {
                    cluster: one.cluster.to_string(),
                    name: one.name.clone(),
                    uid: one.uid.clone(),
                },
                cluster: "tenant".into(),
                namespace: "web".into(),
            };
            let namespace = json!({"metadata": {"annotations": {NAMESPACE_LOCATOR_ANNOTATION: locator.to_json()}}});
            prop_assert_eq!(is_namespace_of(&namespace, &other), one == other);
        }
    }

    #[rstest]
    #[case::ready(1, json!({"observedGeneration": 2, "updatedReplicas": 1, "readyReplicas": 1}), true)]
    #[case::none_of_none(0, json!({"observedGeneration": 2, "updatedReplicas": 0, "readyReplicas": 0}), false)]
    #[case::old_generation(1, json!({"observedGeneration": 1, "updatedReplicas": 1, "readyReplicas": 1}), false)]
    #[case::old_pods(1, json!({"observedGeneration": 2, "updatedReplicas": 0, "readyReplicas": 1}), false)]
    #[case::partly(3, json!({"observedGeneration": 2, "updatedReplicas": 3, "readyReplicas": 2}), false)]
    #[case::nothing(1, json!(null), false)]
    fn a_rollout_is_ready_when_all_pods_of_the_current_generation_are(
        #[case] replicas: i32,
        #[case] status: Value,
        #[case] ready: bool,
    ) {
        let deployment = json!({
            "metadata": {"generation": 2}, "spec": {"replicas": replicas}, "status": status,
        });
        assert_eq!(Rollout::of(&deployment).is_ready(), ready);
    }

    #[test]
    fn a_deployment_whose_controller_gave_up_is_stuck() {
        let deployment = json!({"status": {"conditions": [
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]}});
        assert!(Rollout::of(&deployment).stuck);
    }

    #[test]
    fn what_was_removed_without_a_way_into_the_member_says_nothing_about_the_member() {
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Ok::<_, std::io::Error>(http::Response::new(kube::client::Body::empty()))
        });
        let removal = |member: bool, parts: &[Part]| Removal {
            agent: AgentId::new("c", "east", "u"),
            occasion: Occasion::End,
            parts: parts.to_vec(),
            member: member.then(|| Connection::in_process(service)),
            namespaces: true,
        };
        let removed = Removed {
            occasion: Occasion::End,
            parts: vec![Part::MemberAccount],
            visited: false,
            result: Ok(vec![]),
            failures: 0,
            again: Instant::now(),
        };
        assert!(removed.answers(&removal(false, &[Part::MemberAccount])));
        assert!(!removed.answers(&removal(true, &[Part::MemberAccount])));
        assert!(!removed.answers(&removal(false, &[Part::Workload])));
        let mut change = removal(false, &[Part::MemberAccount]);
        change.occasion = Occasion::ModeChange;
        assert!(
            !removed.answers(&change),
            "it may have been made anew since"
        );
    }

    #[test]
    fn a_failed_removal_stands_for_a_while_and_a_done_one_for_good() {
        let now = Instant::now();
        let removed = |result| Removed {
            occasion: Occasion::End,
            parts: vec![],
            visited: true,
            result,
            failures: 1,
            again: now + FIRST_RETRY,
        };
        let failed = removed(Err("refused".to_owned()));
        assert!(failed.stands(now) && !failed.stands(now + FIRST_RETRY));
        assert!(removed(Ok(vec![])).stands(now + FIRST_RETRY));
    }
}
