//! What the agent may not do in its member although it would have to: asked of the member, so that an
//! account without rights is known as a whole and not object by object.

use std::time::Duration;

use tmc_api::agent::rules::{Rule, SYNC_VERBS};
use tmc_api::syncer::MissingRights;
use tmc_apimachinery::GroupVersionResource;
use tmc_runtime::{Connection, rights};
use tokio::time::{Instant, timeout};

use crate::mapping::Target;

/// How often is asked, unless something is missing or other resources are synced: then each time.
pub(crate) const ASK_EVERY: Duration = Duration::from_secs(5 * 60);
/// Time for the member to say.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// What the member said last.
#[derive(Default)]
pub(crate) struct Rights(Option<Asked>);

struct Asked {
    at: Instant,
    /// For syncing what.
    synced: Vec<GroupVersionResource>,
    /// `None` if the member does not say.
    missing: Option<MissingRights>,
}

impl Asked {
    /// A member that does not say it is left in peace: most that do not never will.
    fn holds(&self, synced: &[GroupVersionResource]) -> bool {
        let nothing_missing = self.missing.as_ref().is_none_or(MissingRights::is_empty);
        nothing_missing && self.synced == synced && self.at.elapsed() < ASK_EVERY
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
            self.0 = Some(Asked {
                at: Instant::now(),
                synced,
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
