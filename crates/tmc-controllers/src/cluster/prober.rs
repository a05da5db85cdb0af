//! Probes members in tasks of their own: a member that hangs holds up nobody else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tmc_api::workload::{Capabilities, reason};
use tmc_runtime::ClusterKey;
use tmc_runtime::jitter::exponential;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::credentials::Credential;
use super::probe::{Failure, probe};
use super::reconcile::{Probe, capabilities};
use crate::context::Context;

/// Probes at the same time.
const AT_ONCE: usize = 64;
/// How often a member that answers is asked again.
const INTERVAL: Duration = Duration::from_secs(60);
/// How often what a member serves is asked for again.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(1800);
/// How soon a member that does not answer is asked again, doubling up to [`INTERVAL`].
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// What is known of one member.
#[derive(Clone, Default)]
struct Known {
    fingerprint: String,
    running: bool,
    failures: u32,
    due: Option<Instant>,
    discovery_due: Option<Instant>,
    probe: Option<Arc<Probe>>,
    capabilities: Option<Arc<Capabilities>>,
}

/// What a reconcile gets to see.
#[derive(Clone, Debug, Default)]
pub(super) struct Finding {
    pub(super) probe: Option<Arc<Probe>>,
    pub(super) capabilities: Option<Arc<Capabilities>>,
    /// When the next probe is due.
    pub(super) next: Option<Duration>,
}

/// Probes and their results.
pub(crate) struct Prober {
    known: Mutex<HashMap<ClusterKey, Known>>,
    slots: Arc<Semaphore>,
}

impl Default for Prober {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Prober {
    /// Gives the last result with this credential, and starts a probe if one is due. Its end puts the
    /// Cluster into the queue.
    pub(super) fn find(
        &self,
        ctx: &Arc<Context>,
        key: &ClusterKey,
        credential: &Credential,
    ) -> Finding {
        let now = Instant::now();
        let mut all = self.known.lock();
        let known = all.entry(key.clone()).or_default();
        if known.fingerprint != credential.facts.fingerprint {
            let fingerprint = credential.facts.fingerprint.clone();
            // A running probe of the old credential is told apart by its fingerprint when it ends.
            *known = Known {
                fingerprint,
                ..Known::default()
            };
        }
        if !known.running && known.due.is_none_or(|due| due <= now) {
            known.running = true;
            let discover = known.discovery_due.is_none_or(|due| due <= now);
            tokio::spawn(run(
                Arc::clone(ctx),
                key.clone(),
                credential.clone(),
                discover,
            ));
        }
        let waits = known.due.filter(|_| !known.running).map(|due| due - now);
        Finding {
            probe: known.probe.clone(),
            capabilities: known.capabilities.clone(),
            next: waits,
        }
    }

    /// Forgets a Cluster that does not exist any more.
    pub(crate) fn forget(&self, key: &ClusterKey) {
        self.known.lock().remove(key);
    }

    fn settle(&self, ctx: &Context, key: &ClusterKey, fingerprint: &str, probe: Probe) {
        let now = Instant::now();
        let mut all = self.known.lock();
        let Some(known) = all
            .get_mut(key)
            .filter(|known| known.fingerprint == fingerprint)
        else {
            return;
        };
        known.running = false;
        let wait = match &probe.outcome {
            Ok(found) => {
                known.failures = 0;
                match (&found.served, capabilities(found, probe.at)) {
                    (_, Some(capabilities)) => {
                        known.capabilities = Some(Arc::new(capabilities));
                        known.discovery_due = Some(now + DISCOVERY_INTERVAL);
                        INTERVAL
                    }
                    // It answers but cannot say what it serves: ask again soon.
                    (Some(_), None) => INTERVAL / 4,
                    (None, None) => INTERVAL,
                }
            }
            Err(_) => {
                known.failures = known.failures.saturating_add(1);
                exponential(FIRST_RETRY, INTERVAL, known.failures - 1)
            }
        };
        known.due = Some(now + ctx.deps.jitter.stretch(wait, 20));
        known.probe = Some(Arc::new(probe));
    }
}

async fn run(ctx: Arc<Context>, key: ClusterKey, credential: Credential, discover: bool) {
    let slots = Arc::clone(&ctx.prober.slots);
    // The semaphore is never closed.
    let Ok(_slot) = slots.acquire().await else {
        return;
    };
    let synced = discover.then(|| &*ctx.deps.sync_resources);
    let outcome = match &credential.connection {
        Ok(connection) => probe(connection, synced).await,
        Err(why) => Err(Failure {
            reason: reason::CONNECTION_FAILED,
            message: why.clone(),
        }),
    };
    let probe = Probe {
        at: ctx.now(),
        outcome,
    };
    ctx.prober
        .settle(&ctx, &key, &credential.facts.fingerprint, probe);
    ctx.queues.clusters.add(key);
}
