//! Starts the controllers and stops them.

use std::sync::Arc;

use parking_lot::Mutex;
use tmc_runtime::Hub;
use tmc_runtime::controller::{self, Outcome};
use tmc_runtime::queue::WorkQueue;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::{CredentialCache, Prober};
use crate::context::{Context, Deps, Queues};
use crate::eviction::pace::Pace;
use crate::members::Members;
use crate::placement::fleet::{Fleets, Loads};
use crate::stores::Informers;
use crate::{cluster, coordination, location, namespace, placement, resource, synctarget, wiring};

/// Passes of one controller under way at once. A pass mostly waits for its write to become durable, and
/// writes that wait together share a batch of the store: few passes would leave it idle.
const PASSES: usize = 64;

/// Runs every controller against one hub. Two managers of one hub do no harm (all writes have
/// preconditions) but double work; one should lead.
pub struct Manager;

/// Running controllers. Dropping it leaves them running; see [`Handle::stop`].
#[must_use = "the controllers can only be stopped through it"]
pub struct Handle {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    ctx: Arc<Context>,
}

impl Manager {
    /// Starts informers and controllers. The hub's connection must carry the identity of the
    /// controllers (group `system:tmc:controllers`). Workers start when the first lists are in.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn start(hub: Hub, deps: Deps) -> Handle {
        let stop = CancellationToken::new();
        let informers = Informers::new(&hub, &deps.sync_resources, &deps.jitter);
        let ctx = Arc::new(Context {
            stores: informers.stores(),
            queues: Queues::new(&deps.jitter),
            members: Members::default(),
            credentials: CredentialCache::default(),
            prober: Prober::default(),
            installer: Default::default(),
            removals: Default::default(),
            fleets: Fleets::default(),
            loads: Loads::default(),
            deciding: Default::default(),
            pace: Mutex::new(Pace::new(deps.eviction.pace)),
            listening_since: deps.clock.now(),
            hub,
            deps,
        });
        listen(&ctx);
        spawn(wiring::connect(informers, &ctx), &stop);
        let task = tokio::spawn(run(Arc::clone(&ctx), stop.clone()));
        Handle { stop, task, ctx }
    }
}

impl Handle {
    /// Ends informers and controllers, and waits for reconciles under way.
    pub async fn stop(self) {
        self.stop.cancel();
        // It ends by itself; a panic in it was logged where it happened.
        let _ = self.task.await;
    }

    /// Whether everything that was listed and queued is worked off. For tests that wait for quiet.
    pub fn is_idle(&self) -> bool {
        let (stores, queues) = (&self.ctx.stores, &self.ctx.queues);
        stores
            .resources
            .iter()
            .all(|resource| resource.store.has_synced())
            && queues.placements.is_empty()
            && queues.notices.is_empty()
            && queues.namespaces.is_empty()
            && queues.objects.is_empty()
            && queues.coordination.is_empty()
            && queues.locations.is_empty()
            && queues.first_locations.is_empty()
            && queues.sync_targets.is_empty()
            && queues.clusters.is_empty()
    }

    /// How often Placements were queued to be looked at since the beginning. For tests that nothing is
    /// looked at in vain.
    pub fn placements_queued(&self) -> u64 {
        self.ctx.queues.placements.additions()
    }

    /// What is kept in memory of SyncTargets, Clusters and Placements: nothing once all of them are
    /// gone. For tests that nothing is left behind.
    pub fn remembered(&self) -> Vec<(&'static str, usize)> {
        let ctx = &self.ctx;
        let mut all = vec![
            ("ways into members", ctx.members.count()),
            ("credentials", ctx.credentials.count()),
            ("probes", ctx.prober.count()),
            ("installations", ctx.installer.count()),
            ("removals", ctx.removals.lock().len()),
            ("targets", ctx.fleets.count()),
            ("placements with targets", ctx.loads.placements()),
            ("targets with placements", ctx.loads.targets()),
        ];
        all.retain(|(_, count)| *count > 0);
        all
    }

    /// Resolves when the first lists of our own kinds are in and workers run.
    pub async fn ready(&self) {
        self.ctx.stores.synced().await;
    }
}

/// Beats and Hosted syncers wake the controller of their target.
fn listen(ctx: &Arc<Context>) {
    let wake = |ctx: &Arc<Context>| {
        // Weak: whoever calls lives longer than the controllers, and must not keep them.
        let ctx = Arc::downgrade(ctx);
        move |target: &crate::heartbeat::TargetId| {
            if let Some(ctx) = ctx.upgrade() {
                let key = tmc_runtime::ClusterKey::new(&target.cluster, "", &target.name);
                ctx.queues.sync_targets.add(key);
            }
        }
    };
    ctx.deps.beats.on_wake(Arc::new(wake(ctx)));
    ctx.deps.hosted.on_change(Arc::new(wake(ctx)));
}

fn spawn(informers: Informers, stop: &CancellationToken) {
    informers.sync_targets.spawn(stop.clone());
    informers.clusters.spawn(stop.clone());
    informers.locations.spawn(stop.clone());
    informers.placements.spawn(stop.clone());
    informers.namespaces.spawn(stop.clone());
    if let Some(informer) = informers.logical_clusters {
        informer.spawn(stop.clone());
    }
    for (_, informer) in informers.resources {
        informer.spawn(stop.clone());
    }
}

async fn run(ctx: Arc<Context>, stop: CancellationToken) {
    tokio::select! {
        biased;
        () = stop.cancelled() => return,
        () = ctx.stores.synced() => {}
    }
    let queues = &ctx.queues;
    let mut sets = vec![
        workers(&ctx, &queues.sync_targets, PASSES, &stop, synctarget::run),
        workers(&ctx, &queues.clusters, PASSES, &stop, cluster::run),
        workers(&ctx, &queues.locations, 2, &stop, location::run),
        workers(&ctx, &queues.first_locations, 1, &stop, location::run_first),
        workers(&ctx, &queues.placements, PASSES, &stop, placement::run),
        // One, for nobody waits for them: what they tell has happened, and decisions come first.
        workers(&ctx, &queues.notices, 1, &stop, placement::tell),
        workers(&ctx, &queues.namespaces, PASSES, &stop, namespace::run),
        workers(&ctx, &queues.objects, PASSES, &stop, resource::run),
        workers(&ctx, &queues.coordination, PASSES, &stop, coordination::run),
    ];
    stop.cancelled().await;
    for set in &mut sets {
        while set.join_next().await.is_some() {}
    }
}

fn workers<K, Fut>(
    ctx: &Arc<Context>,
    queue: &WorkQueue<K>,
    count: usize,
    stop: &CancellationToken,
    reconcile: fn(Arc<Context>, K) -> Fut,
) -> JoinSet<()>
where
    K: Clone + Eq + std::hash::Hash + std::fmt::Debug + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let (ctx, name) = (Arc::clone(ctx), queue.name());
    controller::run(queue, count, stop, move |key| {
        let ctx = Arc::clone(&ctx);
        async move {
            let start = Instant::now();
            let outcome = reconcile(Arc::clone(&ctx), key).await;
            let metrics = &ctx.deps.metrics;
            metrics.reconciled(name, start.elapsed(), outcome.is_err());
            outcome
        }
    })
}
