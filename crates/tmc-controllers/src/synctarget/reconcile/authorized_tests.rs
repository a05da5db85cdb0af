//! What agents say of their rights, as a table.

use rstest::rstest;
use tmc_api::conditions::ConditionStatus::{self, False, True};
use tmc_api::syncer::MissingRights;

use super::tests::*;
use super::*;

fn said(names: &[&str]) -> Option<MissingRights> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    Some(names.try_into().unwrap())
}

fn no(why: &str) -> Option<Condition> {
    let (kind, reason) = (condition::SYNCER_AUTHORIZED, reason::SYNCER_UNAUTHORIZED);
    Some(Condition::no(kind, Severity::Error, reason, why))
}

fn yes() -> Option<Condition> {
    Some(Condition::yes(condition::SYNCER_AUTHORIZED))
}

/// All is well with a target but for what its agent says of its rights.
fn saying(missing_rights: Option<MissingRights>) -> Observed {
    Observed {
        beat: beat(0).map(|beat| Beat {
            missing_rights,
            ..beat
        }),
        ..well()
    }
}

const LACKS: &str = "the syncer's account may not create deployments.apps, delete deployments.apps";

#[rstest]
#[case::nothing_was_ever_said(None, None, None, True)]
#[case::it_may_do_everything(None, said(&[]), yes(), True)]
#[case::it_lacks_something(
    None, said(&["create deployments.apps", "delete deployments.apps"]), no(LACKS), False)]
#[case::it_got_its_rights(no(LACKS), said(&[]), yes(), True)]
#[case::it_lost_some(yes(), said(&["get secrets"]), no("the syncer's account may not get secrets"), False)]
#[case::an_agent_that_writes_it_itself(no("its own words"), None, no("its own words"), False)]
#[case::another_one(yes(), None, yes(), True)]
fn whether_a_syncer_is_authorized_is_what_its_agent_says_last(
    #[case] before: Option<Condition>,
    #[case] said: Option<MissingRights>,
    #[case] expected: Option<Condition>,
    #[case] ready: ConditionStatus,
) {
    let mut target = hosted_target();
    if let Some(before) = before {
        let list = &mut target.status.get_or_insert_default().conditions;
        conditions::set(list, before, at(-100));
    }
    let new = after(&target, &saying(said), at(1));
    let found = conditions::get(new.conditions(), condition::SYNCER_AUTHORIZED).cloned();
    let undated = found.map(|condition| Condition {
        last_transition_time: None,
        ..condition
    });
    assert_eq!(undated, expected);
    let (_, found, why) = verdict(&new);
    assert_eq!(found, ready, "{why}");
}

#[test]
fn a_hub_that_has_restarted_keeps_what_was_said() {
    let lacking = after(&hosted_target(), &saying(said(&["get secrets"])), at(1));
    let silent = Observed {
        beat: None,
        listening_since: at(2),
        ..well()
    };
    let kept = after(&lacking, &silent, at(3));
    let of = |target: &SyncTarget| {
        conditions::get(target.conditions(), condition::SYNCER_AUTHORIZED).cloned()
    };
    assert_eq!(of(&kept), of(&lacking));
    assert_eq!(verdict(&kept).1, False);
}
