//! What the agent may not do in its member although it would have to: asked of the member, so that an
//! account without rights is known as a whole and not object by object.

use std::time::Duration;

use tmc_api::agent::rules::{Rule, SYNC_VERBS};
use tmc_api::syncer::MissingRights;
use tmc_apimachinery::GroupVersionResource;
use tmc_runtime::jitter::exponential;
use tmc_runtime::{Connection, rights};
use tokio::time::{Instant, timeout};

use crate::mapping::Target;

/// How often is asked, unless something is missing or other resources are synced: then each time.
pub(crate) const ASK_EVERY: Duration = Duration::from_secs(5 * 60);
/// Until a member is asked again that did not say: it may only have been busy. Doubles up to the time
/// above, for most that do not say it never will.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// Time for the member to say.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// What the member said last.
#[derive(Default)]
pub(crate) struct Rights(Option<Asked>);

struct Asked {
    at: Instant,
    /// For syncing what.
    synced: Vec<GroupVersionResource>,
    /// `None` if the member did not say.
    missing: Option<MissingRights>,
    /// How often in a row it did not.
    silent: u32,
}

impl Asked {
    fn holds(&self, synced: &[GroupVersionResource]) -> bool {
        let patience = match &self.missing {
            Some(missing) if missing.is_empty() => ASK_EVERY,
            Some(_) => Duration::ZERO,
            None => exponential(ASK_AGAIN, ASK_EVERY, self.silent.saturating_sub(1)),
        };
        self.synced == synced && self.at.elapsed() < patience
    }
}

impl Rights {
    /// What is missing for syncing these resources (sorted). `None` if the member does not say, and
    /// while nothing is synced: then it is not known yet what is needed.
    pub(crate) async fn missing(
        &mut self,
        member: &Connection,
        target: &Target,
        synced: Vec<GroupVersionResource>,
    ) -> Option<MissingRights> {
        if synced.is_empty() {
            return None;
        }
        if !self.0.as_ref().is_some_and(|asked| asked.holds(&synced)) {
            let missing = ask(member, target, &synced).await;
            let before = self.0.as_ref().map_or(0, |asked| asked.silent);
            self.0 = Some(Asked {
                at: Instant::now(),
                synced,
                silent: if missing.is_none() { before + 1 } else { 0 },
                missing,
            });
        }
        self.0.as_ref()?.missing.clone()
    }
}

/// Asks as the agent. The namespace is one that the agent would make itself: rights in namespaces of
/// others are not what it needs.
async fn ask(
    member: &Connection,
    target: &Target,
    synced: &[GroupVersionResource],
) -> Option<MissingRights> {
    let client = member.base_client();
    let namespace = target.downstream_namespace(&target.cluster, "default");
    let needed = needed(synced);
    let review = rights::review(&client, &namespace, &needed);
    match timeout(ANSWER_WITHIN, review).await {
        Ok(Ok(lacking)) => Some(MissingRights::of(&lacking)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the member does not say what the agent may do");
            None
        }
        Err(_) => None,
    }
}

/// What syncing takes. What makes a report fuller (nodes, pods, discovery) is not among it: without
/// it nothing fails.
fn needed(synced: &[GroupVersionResource]) -> Vec<Rule> {
    let objects = synced.iter();
    let objects = objects.map(|gvr| Rule::on(&gvr.group, &[gvr.resource.as_str()], &SYNC_VERBS));
    let namespaces = Rule::on("", &["namespaces"], &SYNC_VERBS);
    objects.chain([namespaces]).collect()
}
