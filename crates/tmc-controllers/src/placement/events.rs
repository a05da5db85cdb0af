//! Events on Placements: what a user is told once, when it happens.

use jiff::Timestamp;
use tmc_api::scheduling::{HoldReason, Placement, PlacementStatus};
use tmc_api::time::Time;
use tmc_runtime::{ClusterKey, Error, Hub};

use super::schedule::Left;
use super::words::{hold_words, leaving_words};
use crate::events::{Event, Subject};

/// Group and version of Placements.
const API_VERSION: &str = "scheduling.kcp.io/v1alpha1";
/// Longest note of an Event, in characters.
const LONGEST: usize = 1000;

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notice {
    /// It is not as it should be.
    pub warning: bool,
    /// In one word.
    pub reason: &'static str,
    /// In a sentence.
    pub message: String,
}

/// What a change of status is to tell. Nothing, if the targets and what holds them are the same.
pub(super) fn notices(
    before: &PlacementStatus,
    after: &PlacementStatus,
    left: &[Left],
) -> Vec<Notice> {
    moved(before, after, left)
        .into_iter()
        .chain(held(before, after))
        .collect()
}

fn moved(before: &PlacementStatus, after: &PlacementStatus, left: &[Left]) -> Option<Notice> {
    if before.sync_targets == after.sync_targets {
        return None;
    }
    let added = after
        .sync_targets
        .iter()
        .filter(|target| !before.sync_targets.contains(target));
    let added: Vec<&str> = added.map(|target| &*target.name).collect();
    let gone: Vec<String> = left
        .iter()
        .map(|left| format!("{}, which {}", left.target.name, leaving_words(left.reason)))
        .collect();
    let (gone, to) = (gone.join("; "), added.join(", "));
    let (warning, reason, message) = match (gone.is_empty(), to.is_empty()) {
        (true, true) => (
            true,
            "Unscheduled",
            "no SyncTarget is used any more".to_owned(),
        ),
        (true, false) => (false, "Scheduled", format!("on {to}")),
        (false, true) => (after.sync_targets.is_empty(), "Left", gone),
        (false, false) => (false, "Moved", format!("to {to} from {gone}")),
    };
    Some(Notice {
        warning,
        reason,
        message: message.chars().take(LONGEST).collect(),
    })
}

fn held(before: &PlacementStatus, after: &PlacementStatus) -> Vec<Notice> {
    let hold = |status: &PlacementStatus, key: &str| {
        let decision = status
            .decisions
            .iter()
            .find(|decision| decision.key == key)?;
        decision.leaving.as_ref()?.held
    };
    let pairs = after.sync_targets.iter().zip(&after.decisions);
    let held = pairs.filter_map(|(target, decision)| {
        let leaving = decision.leaving.as_ref()?;
        let now = leaving
            .held
            .filter(|hold| *hold != HoldReason::RateLimited)?;
        let why = leaving_words(leaving.reason);
        (hold(before, &target.key) != Some(now)).then(|| Notice {
            warning: true,
            reason: "EvictionHeld",
            message: format!("{} {why}, but stays: {}", target.name, hold_words(now)),
        })
    });
    held.collect()
}

/// Something to tell of one Placement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PlacementNotice {
    placement: ClusterKey,
    uid: String,
    notice: Notice,
    at: Timestamp,
}

impl PlacementNotice {
    /// What happened to a Placement at `at`.
    pub(super) fn new(
        key: &ClusterKey,
        placement: &Placement,
        notice: Notice,
        at: Timestamp,
    ) -> Self {
        Self {
            placement: key.clone(),
            uid: placement.metadata.uid.clone().unwrap_or_default(),
            notice,
            at,
        }
    }

    /// Makes the Event that tells it. Its name is the same for the same notice at the same time, so
    /// that it is made once.
    ///
    /// # Errors
    /// As [`Event::create`].
    pub(super) async fn tell(&self, hub: &Hub) -> Result<(), Error> {
        let mark = self.mark();
        self.event(&mark).create(hub, self.at).await
    }

    fn mark(&self) -> String {
        format!("{}/{}", self.notice.message, Time::new(self.at))
    }

    fn event<'a>(&'a self, mark: &'a str) -> Event<'a> {
        Event {
            subject: Subject {
                api_version: API_VERSION,
                kind: "Placement",
                key: &self.placement,
                uid: &self.uid,
            },
            warning: self.notice.warning,
            reason: self.notice.reason,
            message: &self.notice.message,
            mark,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tmc_api::scheduling::{LeaveReason, Leaving, PickedTarget, TargetDecision};

    use super::*;

    fn target(name: &str) -> PickedTarget {
        PickedTarget {
            key: format!("K{name}"),
            cluster: "c".into(),
            name: name.into(),
            uid: "u".into(),
        }
    }

    fn status(names: &[&str], held: Option<HoldReason>) -> PlacementStatus {
        PlacementStatus {
            sync_targets: names.iter().map(|name| target(name)).collect(),
            decisions: names
                .iter()
                .map(|name| TargetDecision {
                    key: target(name).key,
                    leaving: held.map(|held| Leaving {
                        held: Some(held),
                        ..Leaving::default()
                    }),
                    ..TargetDecision::default()
                })
                .collect(),
            ..PlacementStatus::default()
        }
    }

    fn left(name: &str) -> Left {
        Left {
            target: target(name),
            reason: LeaveReason::Draining,
        }
    }

    const GUARD: Option<HoldReason> = Some(HoldReason::PartitionGuard);

    #[rstest]
    #[case::first(status(&[], None), status(&["a", "b"], None), &[], "Normal Scheduled on a, b")]
    #[case::moved(status(&["a"], None), status(&["b"], None), &["a"],
        "Normal Moved to b from a, which is being drained")]
    #[case::one_of_two(status(&["a", "b"], None), status(&["b"], None), &["a"],
        "Normal Left a, which is being drained")]
    #[case::the_last(status(&["a"], None), status(&[], None), &["a"],
        "Warning Left a, which is being drained")]
    #[case::forbidden(status(&["a"], None), status(&[], None), &[],
        "Warning Unscheduled no SyncTarget is used any more")]
    #[case::held(status(&["a"], None), status(&["a"], GUARD), &[],
        "Warning EvictionHeld a is unreachable, but stays: so many SyncTargets of its Location were lost at once that nothing is moved")]
    #[case::held_as_before(status(&["a"], GUARD), status(&["a"], GUARD), &[], "")]
    #[case::waiting_is_no_news(status(&["a"], None), status(&["a"], Some(HoldReason::RateLimited)), &[], "")]
    #[case::nothing(status(&["a"], None), status(&["a"], None), &[], "")]
    fn a_transition_is_told_once(
        #[case] before: PlacementStatus,
        #[case] after: PlacementStatus,
        #[case] gone: &[&str],
        #[case] expected: &str,
    ) {
        let gone: Vec<_> = gone.iter().map(|name| left(name)).collect();
        let told = notices(&before, &after, &gone);
        let told: Vec<_> = told
            .iter()
            .map(|notice| {
                let kind = if notice.warning { "Warning" } else { "Normal" };
                format!("{kind} {} {}", notice.reason, notice.message)
            })
            .collect();
        assert_eq!(told.join("\n"), expected);
        assert_eq!(
            notices(&after, &after, &[]),
            [],
            "a second pass tells nothing"
        );
    }

    #[test]
    fn an_event_is_about_the_placement_and_named_once_a_moment() {
        let mut placement = Placement::new("p", Default::default());
        placement.metadata.uid = Some("u".into());
        let key = ClusterKey::new(&tmc_apimachinery::ClusterName::new("c"), "", "p");
        let event = |at| {
            let notice = Notice {
                warning: false,
                reason: "Moved",
                message: "to b".into(),
            };
            let told = PlacementNotice::new(&key, &placement, notice, at);
            told.event(&told.mark()).manifest(at)
        };
        let now = "2030-01-01T00:00:00Z".parse().unwrap();
        let first = event(now);
        assert_eq!(first["involvedObject"]["kind"], "Placement");
        assert_eq!(first["involvedObject"]["uid"], "u");
        assert_eq!(first["metadata"]["namespace"], "default");
        assert_eq!(event(now), first);
        let again = event(now + jiff::SignedDuration::from_secs(60));
        assert_ne!(
            again["metadata"]["name"], first["metadata"]["name"],
            "moved once more"
        );
    }
}
