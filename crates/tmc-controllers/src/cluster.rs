//! Clusters: from a registered kubeconfig to a probed member and its SyncTarget.

pub mod account;
mod credentials;
pub mod derived;
pub mod probe;
mod prober;
pub mod reconcile;
mod registration;
mod visits;
mod warnings;

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tmc_api::agent::AgentId;
use tmc_api::conditions;
use tmc_api::keys::CLUSTER_FINALIZER;
use tmc_api::time::Time;
use tmc_api::workload::{self, Cluster, NodeCounts, SyncTarget, SyncerMode, condition};
use tmc_apimachinery::GroupVersionResource;
use tmc_runtime::client::DeleteParams;
use tmc_runtime::controller::{Flow, Outcome};
use tmc_runtime::{ClusterKey, Error, ResourceClient};

pub(crate) use credentials::CredentialCache;
#[cfg(test)]
pub(crate) use prober::INTERVAL as PROBE_INTERVAL;
pub(crate) use prober::Prober;

use crate::context::Context;
use crate::events::News;
use crate::heartbeat::persist_every;
use crate::members::{Member, Way};
use crate::stores::index;
use crate::synctarget::{decide, removal};
use account::{Account, Arrangement};
use credentials::Credential;
use reconcile::{Derived, Observed, Rbac};
use warnings::{Ending, Turn};

/// How soon to look again whether the SyncTarget of a deleted Cluster is gone, besides its events.
const DELETION_CHECK: Duration = Duration::from_secs(30);

pub(crate) fn gvr() -> GroupVersionResource {
    GroupVersionResource::new(workload::GROUP, workload::VERSION, "clusters")
}

/// How often the time of the last probe is written.
fn times_every(ctx: &Context, cluster: &Cluster) -> SignedDuration {
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    persist_every(ctx.stores.clusters.len(), uid)
}

pub(crate) async fn run(ctx: Arc<Context>, key: ClusterKey) -> Outcome {
    let Some(cluster) = ctx.stores.clusters.get(&key) else {
        forget(&ctx, &key);
        return Ok(Flow::Done);
    };
    let mut finalizers = cluster.metadata.finalizers.iter().flatten();
    let is_ours = finalizers.any(|name| name == CLUSTER_FINALIZER);
    if cluster.metadata.deletion_timestamp.is_some() {
        if is_ours {
            return delete(&ctx, &key, &cluster).await;
        }
        // Whoever still holds it back is no reason to visit the member.
        forget(&ctx, &key);
        return Ok(Flow::Done);
    }
    let committer = ctx.committer(gvr());
    let mut finalized = (*cluster).clone();
    if !is_ours {
        let finalizers = finalized.metadata.finalizers.get_or_insert_default();
        finalizers.push(CLUSTER_FINALIZER.into());
        committer.main(&key, &*cluster, &finalized).await?;
        return Ok(Flow::Done);
    }
    let Seen {
        credential,
        target,
        finding,
    } = look(&ctx, &key, &cluster).await?;
    let now = ctx.now();
    let mut observed = Observed {
        credential: credential.map(|credential| credential.facts),
        probe: finding.probe,
        capabilities: finding.capabilities,
        undiscovered: finding.undiscovered,
        derived: Derived::Missing,
        rbac: match &target {
            None => Rbac::NoTarget,
            Some(target) if target.spec.mode() == SyncerMode::External => Rbac::NotOurs,
            Some(_) => Rbac::Ours(finding.arranged),
        },
        nodes: target.as_ref().and_then(|target| nodes(&ctx, &key, target)),
        persist_every: times_every(&ctx, &cluster),
    };
    let failure = match derived(&ctx, &key, &cluster, &observed).await {
        Ok(found) => {
            observed.derived = found;
            None
        }
        Err(error) => {
            observed.derived = target.map_or(Derived::Missing, Derived::Owned);
            Some(error)
        }
    };
    let mut new = (*cluster).clone();
    new.status = Some(reconcile::status(&cluster, &observed, now));
    // What is known is told, whatever else went wrong; what went wrong is what is tried again.
    let told = committer.status(&key, &*cluster, &new).await;
    let unwarned = tell_of_expiry(&ctx, &key, &new).await;
    if let Some(error) = failure {
        return Err(error);
    }
    told?;
    let waits = [
        finding.next,
        reconcile::look_again(&observed.credential, now),
        unwarned,
    ];
    Ok(waits
        .into_iter()
        .flatten()
        .min()
        .map_or(Flow::Done, Flow::RequeueAfter))
}

/// What is seen of a Cluster.
struct Seen {
    credential: Result<Credential, (&'static str, String)>,
    target: Option<Arc<SyncTarget>>,
    finding: prober::Finding,
}

/// Looks at the credential and at what is known of the member, and tells the syncers of it.
async fn look(ctx: &Arc<Context>, key: &ClusterKey, cluster: &Cluster) -> Result<Seen, Error> {
    let credential = credentials::check(ctx, key, cluster).await?;
    let target = owned_target(ctx, key, cluster);
    let wanted = target
        .as_deref()
        .and_then(|target| arrangement(ctx, key, target));
    let finding = match &credential {
        Ok(credential) => {
            let was_connected = conditions::is_true(cluster.conditions(), condition::CONNECTED);
            ctx.prober.find(ctx, key, credential, wanted, was_connected)
        }
        Err(_) => {
            ctx.prober.close(key).await;
            prober::Finding::default()
        }
    };
    open_or_close(ctx, key, cluster, &credential, finding.account.clone());
    Ok(Seen {
        credential,
        target,
        finding,
    })
}

/// The derived SyncTarget, as far as it is known.
fn owned_target(ctx: &Context, key: &ClusterKey, cluster: &Cluster) -> Option<Arc<SyncTarget>> {
    let key = ClusterKey::new(&key.cluster, "", &derived::name(cluster));
    let target = ctx.stores.sync_targets.get(&key)?;
    derived::is_owned(&target, cluster).then_some(target)
}

/// What is to be in the member for the syncer of a target; nothing in mode External, and nothing
/// more for one that is on its way out.
fn arrangement(ctx: &Context, key: &ClusterKey, target: &SyncTarget) -> Option<Arrangement> {
    let name = target.metadata.name.as_deref().unwrap_or_default();
    let uid = target.metadata.uid.as_deref().unwrap_or_default();
    let agent = AgentId::new(key.cluster.as_str(), name, uid);
    let wanted = !removal::is_clearing(target) && decide::has_member_account(target);
    wanted.then(|| Arrangement {
        namespace: agent.namespace(target.spec.syncer_config.as_ref()),
        synced: crate::synctarget::synced_by(target, &ctx.deps.sync_resources),
        agent,
    })
}

fn nodes(ctx: &Context, key: &ClusterKey, target: &SyncTarget) -> Option<NodeCounts> {
    let key = ClusterKey::new(&key.cluster, "", target.metadata.name.as_deref()?);
    let beat = ctx
        .deps
        .beats
        .last(&crate::synctarget::identity(&key, target))?;
    beat.totals?.nodes
}

/// A warning ahead of the end of the credential: a measurement always, an Event once a credential and
/// process. Gives when to try again, if the Event could not be made.
async fn tell_of_expiry(ctx: &Context, key: &ClusterKey, cluster: &Cluster) -> Option<Duration> {
    let credentials = cluster.status.as_ref().and_then(|s| s.credentials.as_ref());
    let expires = credentials.and_then(|c| c.expiration_time);
    ctx.deps
        .metrics
        .credential_expires(key, expires.map(Time::timestamp));
    let (credentials, expires) = (credentials?, expires?);
    if !reconcile::is_ending(cluster.conditions()) {
        return None;
    }
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    let ending = Ending::new(uid, &credentials.fingerprint);
    let warnings = &ctx.credentials.warnings;
    match warnings.turn(key, &ending) {
        Turn::Now => {}
        Turn::In(wait) => return Some(wait),
        Turn::Told => return None,
    }
    let news = News {
        kind: "Cluster",
        key,
        uid,
        reason: "ExpiringSoon",
        message: format!(
            "the credential ends at {expires}; store a new kubeconfig in Secret \"{}\"",
            cluster.spec.kubeconfig_secret_ref.name
        ),
        about: &credentials.fingerprint,
    };
    let told = crate::events::tell(&ctx.hub, &news, ctx.now()).await;
    warnings.note(key, ending, told, &ctx.deps.jitter)
}

fn forget(ctx: &Context, key: &ClusterKey) {
    ctx.members.forget(key);
    ctx.prober.forget(key);
    ctx.credentials.forget(key);
    ctx.deps.metrics.credential_expires(key, None);
}

/// Tells the syncers of this Cluster which way into the member there is.
fn open_or_close(
    ctx: &Context,
    key: &ClusterKey,
    cluster: &Cluster,
    credential: &Result<Credential, (&'static str, String)>,
    account: Option<Account>,
) {
    let member = match credential {
        Ok(Credential {
            connection: Ok(connection),
            facts,
            ..
        }) => Member::Usable {
            connection: connection.clone(),
            fingerprint: facts.fingerprint.clone(),
            account: account.map(|account| Way {
                connection: account.connection,
                fingerprint: account.fingerprint,
            }),
        },
        _ => Member::Unusable,
    };
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    if ctx.members.set(key, uid, member) {
        for target in ctx
            .stores
            .sync_targets
            .keys_by_index(index::REFERENCE, &key.to_string())
        {
            ctx.queues.sync_targets.add(target);
        }
    }
}

/// Finds, makes or updates the derived SyncTarget.
async fn derived(
    ctx: &Context,
    key: &ClusterKey,
    cluster: &Cluster,
    observed: &Observed,
) -> Result<Derived, Error> {
    let name = derived::name(cluster);
    let target_key = ClusterKey::new(&key.cluster, "", &name);
    let committer = ctx.committer(crate::synctarget::gvr());
    if let Some(target) = ctx.stores.sync_targets.get(&target_key) {
        if !derived::is_owned(&target, cluster) {
            return Ok(Derived::Conflict(name));
        }
        committer
            .main(&target_key, &*target, &derived::updated(&target, cluster))
            .await?;
        return Ok(Derived::Owned(target));
    }
    let connected = observed
        .probe
        .as_ref()
        .is_some_and(|probe| probe.outcome.is_ok())
        || conditions::is_true(cluster.conditions(), condition::CONNECTED);
    if observed.credential.is_err() || !connected {
        return Ok(Derived::Missing);
    }
    let client = committer.client(&target_key);
    let object = match client.create("", &derived::new(cluster)).await {
        // The cache is behind: ask the hub whose it is.
        Err(error) if error.already_exists() => client.get("", &name).await?,
        made => made?,
    };
    Ok(match decode(object) {
        Some(target) if derived::is_owned(&target, cluster) => Derived::Owned(Arc::new(target)),
        _ => Derived::Conflict(name),
    })
}

fn decode(object: serde_json::Value) -> Option<SyncTarget> {
    serde_json::from_value(object).ok()
}

/// The order of a deletion: SyncTarget, the account that `register` made, then the finalizer. The
/// Secret goes by its owner reference, if `register` made it.
async fn delete(ctx: &Arc<Context>, key: &ClusterKey, cluster: &Cluster) -> Outcome {
    let committer = ctx.committer(gvr());
    // What the SyncTarget's controller removes in the member needs the way in to its end.
    let seen = look(ctx, key, cluster).await?;
    let target_key = ClusterKey::new(&key.cluster, "", &derived::name(cluster));
    if let Some(target) = living_target(ctx, &target_key, cluster).await? {
        let mut new = cluster.clone();
        let observed = Observed {
            credential: seen
                .credential
                .as_ref()
                .map(|c| c.facts.clone())
                .map_err(Clone::clone),
            probe: None,
            capabilities: None,
            undiscovered: None,
            derived: Derived::Owned(Arc::clone(&target)),
            rbac: Rbac::Ours(None),
            nodes: None,
            persist_every: times_every(ctx, cluster),
        };
        new.status = Some(reconcile::status(cluster, &observed, ctx.now()));
        committer.status(key, cluster, &new).await?;
        if target.metadata.deletion_timestamp.is_none() {
            let targets = ctx.committer(crate::synctarget::gvr());
            // How to delete it must be in it before it is deleted.
            if targets
                .main(&target_key, &*target, &derived::updated(&target, cluster))
                .await?
            {
                return Ok(Flow::RequeueAfter(Duration::from_millis(100)));
            }
            let only = DeleteParams {
                uid: target.metadata.uid.clone(),
                ..DeleteParams::default()
            };
            match targets
                .client(&target_key)
                .delete("", &target_key.name, &only)
                .await
            {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        let soon = seen.finding.next.unwrap_or(DELETION_CHECK);
        return Ok(Flow::RequeueAfter(soon.min(DELETION_CHECK)));
    }
    match &seen.credential {
        Ok(credential) => match ctx.prober.unregister(ctx, key, credential) {
            None => return Ok(Flow::RequeueAfter(DELETION_CHECK)),
            Some(Ok(())) => {}
            Some(Err(why)) => {
                tell_of_account(ctx, key, cluster, (credentials::MADE, &why)).await;
            }
        },
        // Whoever made an account has to know that it stays, for nobody comes in any more.
        Err((_, why)) => {
            if let Some(account) = credentials::account_behind(ctx, key, cluster).await? {
                tell_of_account(ctx, key, cluster, (account, why)).await;
            }
        }
    }
    let mut new = cluster.clone();
    if let Some(finalizers) = &mut new.metadata.finalizers {
        finalizers.retain(|name| name != CLUSTER_FINALIZER);
    }
    // What is known is kept until the cache shows that this is done: without it the next pass would
    // visit the member at once, and the end of that visit be the next pass.
    match committer.main(key, cluster, &new).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(Flow::Done),
    }
}

/// The account that `register` made, by its words and why it could not be removed: somebody has to
/// know.
async fn tell_of_account(
    ctx: &Context,
    key: &ClusterKey,
    cluster: &Cluster,
    (account, why): (&str, &str),
) {
    let news = News {
        kind: "Cluster",
        key,
        uid: cluster.metadata.uid.as_deref().unwrap_or_default(),
        reason: "LeftBehind",
        message: format!(
            "{why}; {account} in the member's namespace \"{}\" is left there",
            tmc_api::agent::registration::NAMESPACE
        ),
        about: "registration",
    };
    crate::events::tell(&ctx.hub, &news, ctx.now()).await;
}

/// The derived SyncTarget while it exists. Its absence is proven by the hub, not by the cache.
async fn living_target(
    ctx: &Context,
    key: &ClusterKey,
    cluster: &Cluster,
) -> Result<Option<Arc<SyncTarget>>, Error> {
    let owned = |target: &Arc<SyncTarget>| derived::is_owned(target, cluster);
    if let Some(target) = ctx.stores.sync_targets.get(key) {
        return Ok(Some(target).filter(owned));
    }
    let client = ResourceClient::new(ctx.hub.cluster(&key.cluster), crate::synctarget::gvr());
    match client.get("", &key.name).await {
        Ok(object) => Ok(decode(object).map(Arc::new).filter(owned)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
