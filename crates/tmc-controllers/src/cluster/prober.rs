//! Probes members in tasks of their own: a member that hangs holds up nobody else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tmc_api::workload::{Capabilities, reason};
use tmc_runtime::ClusterKey;
use tmc_runtime::jitter::exponential;
use tokio::time::Instant;

use super::account::{self, Account, Arranged, Arrangement, Registered, Shortfall};
use super::credentials::Credential;
use super::probe::{Failure, Found, probe};
use super::reconcile::{Probe, capabilities};
use super::registration;
use super::visits::{Stay, Visits};
use crate::context::Context;
use crate::slots::{Slots, Want};

/// How often a member that answers is asked again.
pub(crate) const INTERVAL: Duration = Duration::from_secs(60);
/// How often what a member serves is asked for again.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(1800);
/// How often the syncer's account is looked at again.
const ARRANGE_INTERVAL: Duration = Duration::from_secs(300);
/// How long after a renewal of the registration's token the next one may begin. When a token is due is
/// the member's word, compared with the hub's clock: neither must make the hub renew without pause.
const RENEWAL_PAUSE: Duration = Duration::from_secs(60);
/// How soon a member that does not answer is asked again, doubling up to [`INTERVAL`].
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// How long the removal of a registration may take.
const UNREGISTER_LIMIT: Duration = Duration::from_secs(10);

/// What is known of one member.
#[derive(Clone, Default)]
struct Known {
    fingerprint: String,
    /// URL and trust of the server: what a rotated credential leaves as it is.
    server: String,
    failures: u32,
    failing_since: Option<Timestamp>,
    due: Option<Instant>,
    renew_not_before: Option<Instant>,
    discovery_due: Option<Instant>,
    probe: Option<Arc<Probe>>,
    capabilities: Option<Arc<Capabilities>>,
    undiscovered: Option<Failure>,
    /// Whether a syncer is to have an account there: what a visit brings of one is of use.
    wanted: bool,
    arrangement: Option<Arrangement>,
    arrange_due: Option<Instant>,
    arrange_failures: u32,
    arranged: Option<Arc<Arranged>>,
    account: Option<Account>,
}

impl Known {
    /// What remains of it for another credential.
    fn rotated(self, credential: &Credential) -> Self {
        let fingerprint = credential.facts.fingerprint.clone();
        let server = credential.server.clone();
        if self.server != server {
            return Self {
                fingerprint,
                server,
                renew_not_before: self.renew_not_before,
                ..Self::default()
            };
        }
        Self {
            fingerprint,
            failures: 0,
            failing_since: None,
            due: None,
            probe: None,
            // The new one may have other rights.
            arrange_due: None,
            ..self
        }
    }

    /// Forgets the syncer's account.
    fn forget_account(&mut self) {
        self.arrangement = None;
        self.account = None;
        self.arranged = None;
        self.arrange_due = None;
    }

    /// Whether a token that is due may be renewed now; from then on not for a while.
    fn begin_renewal(&mut self, now: Instant) -> bool {
        let may = self.renew_not_before.is_none_or(|earliest| earliest <= now);
        if may {
            self.renew_not_before = Some(now + RENEWAL_PAUSE);
        }
        may
    }

    /// Whether the account has to be looked at.
    fn must_arrange(&self, wanted: &Arrangement, now: Instant) -> bool {
        self.arrangement.as_ref() != Some(wanted) || self.arrange_due.is_none_or(|due| due <= now)
    }
}

/// What a reconcile gets to see.
#[derive(Clone, Default)]
pub(super) struct Finding {
    pub(super) probe: Option<Arc<Probe>>,
    pub(super) capabilities: Option<Arc<Capabilities>>,
    /// Why the last discovery failed, if it did.
    pub(super) undiscovered: Option<Failure>,
    /// How the present arrangement went.
    pub(super) arranged: Option<Arc<Arranged>>,
    /// The syncer's account, once it is good.
    pub(super) account: Option<Account>,
    /// When the next probe is due.
    pub(super) next: Option<Duration>,
}

/// The uid of a registration's account, and how its removal went.
type Unregistered = (String, Result<(), String>);

/// Probes and their results.
#[derive(Default)]
pub(crate) struct Prober {
    /// A visit is called off while this is locked, so that whoever holds it knows whether one counts.
    known: Mutex<HashMap<ClusterKey, Known>>,
    visits: Arc<Visits>,
    slots: Slots,
    /// How the removal of registrations went.
    unregistered: Mutex<HashMap<ClusterKey, Unregistered>>,
    removals: Arc<Visits>,
}

/// What one visit to a member is for.
struct Visit {
    key: ClusterKey,
    credential: Credential,
    /// Whether it answered last time.
    proven: bool,
    discover: bool,
    arrangement: Option<Arrangement>,
    account: Option<Account>,
    /// Whether the registration's token is to be renewed.
    renews: bool,
}

/// What it led to.
struct Visited {
    probe: Result<Found, Failure>,
    arranged: Option<(Result<(), Shortfall>, Option<Account>)>,
}

impl Prober {
    /// Gives the last result with this credential, and starts a visit if one is due. Its end puts the
    /// Cluster into the queue. A visit with another credential is called off; none starts before it has
    /// ended. `was_connected` is what was known before this process started.
    pub(super) fn find(
        &self,
        ctx: &Arc<Context>,
        key: &ClusterKey,
        credential: &Credential,
        wanted: Option<Arrangement>,
        was_connected: bool,
    ) -> Finding {
        let now = Instant::now();
        let mut all = self.known.lock();
        let known = all.entry(key.clone()).or_default();
        if known.fingerprint != credential.facts.fingerprint {
            self.visits.call_off(key);
            *known = std::mem::take(known).rotated(credential);
        }
        known.wanted = wanted.is_some();
        if !known.wanted {
            // Whoever wants none removes what there is.
            known.forget_account();
        }
        let arrange = wanted.clone().filter(|wanted| {
            known.must_arrange(wanted, now)
                || account::is_due(known.account.as_ref(), &wanted.agent, ctx.now())
        });
        let due = known.due.is_none_or(|due| due <= now);
        let new = wanted.is_some() && known.arrangement != wanted && known.failures == 0;
        let stay = (due || new).then(|| self.visits.begin(key)).flatten();
        if let Some(stay) = stay {
            let token = credential.registration.as_ref();
            let is_due = token.is_some_and(|claims| registration::is_due(claims, ctx.now()));
            let renews = is_due && known.begin_renewal(now);
            let visit = Visit {
                key: key.clone(),
                credential: credential.clone(),
                proven: match &known.probe {
                    Some(probe) => probe.outcome.is_ok(),
                    None => was_connected,
                },
                discover: known.discovery_due.is_none_or(|due| due <= now),
                arrangement: arrange,
                account: known.account.clone(),
                renews,
            };
            tokio::spawn(run(Arc::clone(ctx), visit, stay));
        }
        let at_rest = !self.visits.is_under_way(key);
        let waits = known.due.filter(|_| at_rest).map(|due| due - now);
        let same = known.arrangement == wanted;
        Finding {
            probe: known.probe.clone(),
            capabilities: known.capabilities.clone(),
            undiscovered: known.undiscovered.clone(),
            arranged: known.arranged.clone().filter(|_| same),
            account: known.account.clone().filter(|_| same),
            next: waits,
        }
    }

    /// The credential must not be used any more: nor must what was made with it. When this returns,
    /// nobody is in the member, so that the refusal can be told. A request that the member had received
    /// may still be done there.
    pub(super) async fn close(&self, key: &ClusterKey) {
        if let Some(known) = self.known.lock().get_mut(key) {
            self.visits.call_off(key);
            known.forget_account();
        }
        self.removals.call_off(key);
        self.visits.ended(key).await;
        self.removals.ended(key).await;
    }

    /// Removes the account that `tmc cluster register` made, if the credential is one of it: `None`
    /// while that runs, which is once and not for long, or again if [`Prober::close`] called it off. Its
    /// end puts the Cluster into the queue.
    pub(super) fn unregister(
        &self,
        ctx: &Arc<Context>,
        key: &ClusterKey,
        credential: &Credential,
    ) -> Option<Result<(), String>> {
        let (Some(claims), Ok(connection)) = (&credential.registration, &credential.connection)
        else {
            return Some(Ok(()));
        };
        // Held until it has begun: one that ends meanwhile must not be followed by another.
        let all = self.unregistered.lock();
        if let Some((_, result)) = all.get(key).filter(|(uid, _)| *uid == claims.uid) {
            return Some(result.clone());
        }
        let stay = self.removals.begin(key)?;
        drop(all);
        let (ctx, key) = (Arc::clone(ctx), key.clone());
        let (claims, connection) = (claims.clone(), connection.clone());
        tokio::spawn(async move {
            let removing = registration::remove_account(&connection, &claims);
            let work = async {
                match tokio::time::timeout(UNREGISTER_LIMIT, removing).await {
                    Ok(result) => result.map_err(|problem| problem.to_string()),
                    Err(_) => Err("the member did not answer".to_owned()),
                }
            };
            let work = ctx.prober.slots.within(Want::Arrange, work);
            if let Some(result) = stay.unless_called_off(work).await {
                ctx.prober.removed(&key, &stay, (claims.uid, result));
            }
            // Whoever looks next finds nobody there.
            drop(stay);
            ctx.queues.clusters.add(key);
        });
        None
    }

    /// Notes how the removal of a registration went, unless it was called off meanwhile.
    fn removed(&self, key: &ClusterKey, stay: &Stay, result: Unregistered) {
        let mut all = self.unregistered.lock();
        if !stay.is_called_off() {
            all.insert(key.clone(), result);
        }
    }

    /// Whether somebody is in the member of a Cluster just now, for whatever credential: also one who
    /// was called back and has not left yet.
    pub(crate) fn is_visiting(&self, key: &ClusterKey) -> bool {
        self.visits.is_under_way(key)
    }

    /// How much is known of members, and how many are visited.
    pub(crate) fn count(&self) -> usize {
        let known = self.known.lock().len() + self.unregistered.lock().len();
        known + self.visits.count() + self.removals.count()
    }

    /// Forgets a Cluster that does not exist any more, and calls back whoever is in its member.
    pub(crate) fn forget(&self, key: &ClusterKey) {
        let mut all = self.known.lock();
        self.visits.call_off(key);
        all.remove(key);
        drop(all);
        let mut all = self.unregistered.lock();
        self.removals.call_off(key);
        all.remove(key);
    }

    /// Notes what a visit led to, unless it was called off: its credential is not the present one then.
    fn settle(&self, ctx: &Context, visit: Visit, visited: Visited, stay: &Stay) {
        let now = Instant::now();
        let mut all = self.known.lock();
        let known = all.get_mut(&visit.key);
        let Some(known) = known.filter(|_| !stay.is_called_off()) else {
            return;
        };
        let at = ctx.now();
        let wait = match &visited.probe {
            Ok(found) => {
                known.failures = 0;
                known.failing_since = None;
                if let Some(served) = &found.served {
                    known.undiscovered = served.as_ref().err().cloned();
                }
                match (&found.served, capabilities(found, at)) {
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
                known.failing_since.get_or_insert(at);
                exponential(FIRST_RETRY, INTERVAL, known.failures - 1)
            }
        };
        let mut wait = ctx.deps.jitter.stretch(wait, 20);
        let arranged_now = visited.arranged.filter(|_| known.wanted);
        if let (Some(arrangement), Some((outcome, account))) = (visit.arrangement, arranged_now) {
            let again = arranged(known, arrangement, outcome, account, at);
            let again = ctx.deps.jitter.stretch(again, 20);
            known.arrange_due = Some(now + again);
            wait = wait.min(again);
        }
        known.due = Some(now + wait);
        known.probe = Some(Arc::new(Probe {
            at,
            outcome: visited.probe,
            failures: known.failures,
            failing_since: known.failing_since,
        }));
    }
}

/// Notes how an arrangement went; gives when to look at it again.
fn arranged(
    known: &mut Known,
    arrangement: Arrangement,
    outcome: Result<(), Shortfall>,
    account: Option<Account>,
    at: Timestamp,
) -> Duration {
    known.arrange_failures = match &outcome {
        Ok(()) => 0,
        Err(_) => known.arrange_failures.saturating_add(1),
    };
    known.arrangement = Some(arrangement);
    known.account = account;
    known.arranged = Some(Arc::new(Arranged { at, outcome }));
    match known.arrange_failures {
        0 => ARRANGE_INTERVAL,
        failures => exponential(FIRST_RETRY, INTERVAL, failures - 1),
    }
}

/// A visit, from its beginning to its end.
async fn run(ctx: Arc<Context>, visit: Visit, stay: Stay) {
    let key = visit.key.clone();
    let visited = stay.unless_called_off(call(&ctx, &visit)).await;
    if let Some(visited) = visited {
        ctx.prober.settle(&ctx, visit, visited, &stay);
    }
    // Whoever looks next finds nobody there.
    drop(stay);
    ctx.queues.clusters.add(key);
}

/// What is done in the member. It can be dropped at any point: each write is whole by itself, and a
/// Secret is written only in the place of the one that was read.
async fn call(ctx: &Context, visit: &Visit) -> Visited {
    let slots = &ctx.prober.slots;
    let synced = visit.discover.then(|| &*ctx.deps.sync_resources);
    let outcome = match &visit.credential.connection {
        Ok(connection) => {
            let want = if visit.proven {
                Want::Proven
            } else {
                Want::Unproven
            };
            slots.within(want, probe(connection, synced)).await
        }
        Err(why) => Err(Failure {
            reason: reason::CONNECTION_FAILED,
            message: why.clone(),
        }),
    };
    let answers = outcome.is_ok();
    let mut visited = Visited {
        probe: outcome,
        arranged: None,
    };
    if let (true, Ok(connection)) = (answers, &visit.credential.connection) {
        if let Some(wanted) = &visit.arrangement {
            let registered = Registered {
                connection,
                endpoint: &visit.credential.endpoint,
            };
            let work = account::arrange(
                &ctx.deps.outbound,
                registered,
                wanted,
                visit.account.clone(),
                ctx.now(),
            );
            visited.arranged = Some(slots.within(Want::Arrange, work).await);
        }
        if visit.renews {
            let work = registration::renew(ctx, &visit.key, &visit.credential, connection);
            slots.within(Want::Arrange, work).await;
        }
    }
    visited
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_always_due_is_renewed_once_a_minute() {
        let (mut known, start) = (Known::default(), Instant::now());
        let renewals = (0..600).filter(|second| {
            let now = start + Duration::from_secs(*second);
            known.begin_renewal(now)
        });
        assert_eq!(
            renewals.collect::<Vec<_>>(),
            (0..600).step_by(60).collect::<Vec<_>>()
        );
    }
}
