//! What holds of beats in memory after any history.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Identities of which each part is a part of another's, or the same.
fn any_target() -> impl Strategy<Value = TargetId> {
    let part = || prop::sample::select(vec!["a", "ab", "a:b", "b"]);
    (part(), part(), part()).prop_map(|(cluster, name, uid)| TargetId {
        cluster: ClusterName::new(cluster),
        name: name.to_owned(),
        uid: uid.to_owned(),
    })
}

#[derive(Clone, Debug)]
enum Step {
    Beat(i64, u8),
    Sessions(u32),
    Forget,
}

fn any_step() -> impl Strategy<Value = (TargetId, Step)> {
    let step = prop_oneof![
        4 => (0_i64..50, 0_u8..3).prop_map(|(at, who)| Step::Beat(at, who)),
        2 => (0_u32..3).prop_map(Step::Sessions),
        1 => Just(Step::Forget),
    ];
    (any_target(), step)
}

proptest! {
    /// A beat and a session count for the triple of workspace, name and uid that they came in for, and
    /// for no other however alike; after a target is forgotten nothing of it is left.
    #[test]
    fn a_beat_is_heard_of_exactly_its_triple(steps in prop::collection::vec(any_step(), 0..60)) {
        let beats = Beats::new();
        let (mut heard, mut open) = (BTreeMap::new(), BTreeMap::new());
        for (target, step) in steps {
            match step {
                Step::Beat(seconds, who) => {
                    let beat = Beat {
                        at: Timestamp::from_second(seconds).unwrap(),
                        identity: who.to_string(),
                        apis: None,
                        totals: None,
                        missing_rights: None,
                        synced: SyncedTotals::default(),
                    };
                    beats.record(&target, beat.clone());
                    // The one that came last, also if the clock was set back in between.
                    heard.insert(target, beat);
                }
                Step::Sessions(count) => {
                    beats.set_sessions(&target, count);
                    open.insert(target, count);
                }
                Step::Forget => {
                    // The sessions of a target that is gone are closed by whoever holds them.
                    beats.set_sessions(&target, 0);
                    beats.forget(&target);
                    heard.remove(&target);
                    open.remove(&target);
                }
            }
            for target in heard.keys().chain(open.keys()) {
                prop_assert_eq!(beats.last(target), heard.get(target).cloned());
                prop_assert_eq!(beats.sessions(target), open.get(target).copied().unwrap_or(0));
            }
        }
        for target in heard.keys().chain(open.keys()) {
            beats.set_sessions(target, 0);
            beats.forget(target);
        }
        prop_assert!(beats.is_empty());
    }
}
