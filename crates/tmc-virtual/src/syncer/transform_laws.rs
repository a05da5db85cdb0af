//! Laws of `view` and `merge` over whole histories: targets come, report, leave, vanish, and crash
//! between the two writes of one answer, while controllers summarise and un-promote.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use tmc_apimachinery::meta::set_label;

use super::tests::{URL, applied, setting, upstream};
use super::*;

const KEYS: [&str; 3] = ["k1", "k2", "k3"];

/// One event in the life of an object; the number is the target.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The scheduler assigns the object.
    Assign(usize),
    /// The agent says that it is about to make a copy.
    Own(usize),
    /// The agent reports; the flag cuts the hub off after the first of the writes.
    Report(usize, i64, bool),
    /// The agent says that its member refuses the object; cut off likewise.
    Refuse(usize, bool),
    /// The agent says that its member has taken it; cut off likewise.
    Take(usize, bool),
    /// The scheduler asks for removal and the agent takes its leave; cut off likewise.
    Leave(usize, bool),
    /// The target is deleted by force: label and finalizer go, its report stays behind.
    Vanish(usize),
    /// The coordinator keeps every report and writes a summary.
    Summarise,
    /// A lost target's report is kept un-promoted, the object's own status becomes Unknown.
    Lose,
}

fn steps() -> impl Strategy<Value = Step> {
    let key = 0..KEYS.len();
    prop_oneof![
        4 => key.clone().prop_map(Step::Assign),
        4 => key.clone().prop_map(Step::Own),
        8 => (key.clone(), 0..5_i64, prop::bool::weighted(0.2)).prop_map(|(k, n, cut)| Step::Report(k, n, cut)),
        2 => (key.clone(), prop::bool::weighted(0.2)).prop_map(|(k, cut)| Step::Refuse(k, cut)),
        2 => (key.clone(), prop::bool::weighted(0.2)).prop_map(|(k, cut)| Step::Take(k, cut)),
        3 => (key.clone(), prop::bool::weighted(0.2)).prop_map(|(k, cut)| Step::Leave(k, cut)),
        1 => key.prop_map(Step::Vanish),
        2 => Just(Step::Summarise),
        1 => Just(Step::Lose),
    ]
}

/// The object, and what each target may find as its own status: one value, or either of two while
/// an answer of its own was cut off.
struct World {
    object: Value,
    expected: BTreeMap<&'static str, Vec<Option<i64>>>,
    /// Whether any member ever refused it.
    refused: bool,
}

impl World {
    fn new() -> Self {
        Self {
            object: upstream(&[]),
            expected: BTreeMap::new(),
            refused: false,
        }
    }

    /// The object's status as its targets made it.
    fn reported(&self) -> Option<Value> {
        synced::without(self.object.get("status").cloned())
    }

    /// The status of the condition `Synced`.
    fn synced(&self) -> Option<&str> {
        let list = self.object.get("status")?.get("conditions")?.as_array()?;
        let own = list.iter().find(|c| c["type"] == synced::SYNCED)?;
        own["status"].as_str()
    }

    /// What controllers make of the status: they keep the condition up to date.
    fn set_status(&mut self, status: Value) {
        let targets: Vec<_> = self.assigned().into_iter().map(TargetKeys::new).collect();
        let before = self.object.clone();
        let said = say(&mut self.object, &targets).expect("said");
        self.object["status"] = status;
        let fields = summarized(&before).expect("fields");
        mark(
            &before,
            &mut self.object,
            &verdict(said),
            &fields,
            &setting(),
        );
    }

    /// Alone, a target that has just answered is what the condition goes by.
    fn check_synced(&self) {
        let said = meta(&self.object).annotation(keys::MESSAGE_ANNOTATION);
        match (said, self.synced()) {
            (Some(_), Some("False")) | (None, None | Some("True")) => {}
            other => panic!("{other:?}"),
        }
    }

    /// The agent says something about the object, or takes it back.
    fn speak(&mut self, key: &'static str, words: Option<&str>, cut: bool) {
        if !self.assigned().contains(&key) || !self.owns(key) {
            return;
        }
        self.refused |= words.is_some();
        let mut body = self.seen(key);
        match words {
            Some(words) => set_annotation(&mut body, keys::MESSAGE_ANNOTATION, words),
            None => drop(remove_annotation(&mut body, keys::MESSAGE_ANNOTATION)),
        }
        let before = self.reported();
        let whole = self.answer(key, &body, Part::Main, cut);
        assert_eq!(self.reported(), before, "words changed the status");
        if whole && self.assigned().len() == 1 {
            self.check_synced();
            let later = Setting {
                now: "2031-01-01T00:00:00Z".parse().expect("a time"),
                ..setting()
            };
            let keys = TargetKeys::new(key);
            let again = merge(&self.object, &body, &keys, Part::Main, &later);
            assert_eq!(again.expect("merge"), [], "said again, it changes nothing");
        }
    }

    fn assigned(&self) -> Vec<&'static str> {
        let sees = |key: &&&str| TargetKeys::new(key).sees(&self.object);
        KEYS.iter().filter(sees).copied().collect()
    }

    fn owns(&self, key: &str) -> bool {
        meta(&self.object).has_finalizer(&TargetKeys::new(key).finalizer)
    }

    fn seen(&self, key: &str) -> Value {
        view(&self.object, &TargetKeys::new(key), URL).expect("view")
    }

    /// What an agent's answer makes of the object; `cut` stops after the first write.
    fn answer(&mut self, key: &str, body: &Value, part: Part, cut: bool) -> bool {
        let keys = TargetKeys::new(key);
        let mut writes = merge(&self.object, body, &keys, part, &setting()).expect("merge");
        let whole = !cut || writes.len() < 2;
        writes.truncate(if cut { 1 } else { 2 });
        self.object = applied(&self.object, &writes);
        whole
    }

    fn keep_reports(&mut self) {
        let targets: Vec<_> = KEYS.iter().map(|key| TargetKeys::new(key)).collect();
        let before = self.object.clone();
        let fields = summarized(&before).expect("default fields");
        unpromote(&before, &mut self.object, &targets, &fields).expect("unpromote");
    }

    fn assign(&mut self, key: &'static str) {
        if !self.assigned().contains(&key) {
            set_label(&mut self.object, &TargetKeys::new(key).state, SYNC);
            let left = self.expected.remove(key).unwrap_or_default();
            let known = left.into_iter().chain([None]).collect();
            self.expected.insert(key, known);
        }
    }

    fn own(&mut self, key: &'static str) {
        if self.assigned().contains(&key) {
            let mut body = self.seen(key);
            add_finalizer(&mut body, &TargetKeys::new(key).finalizer);
            self.answer(key, &body, Part::Main, false);
        }
    }

    fn report(&mut self, key: &'static str, n: i64, cut: bool) {
        if !self.assigned().contains(&key) || !self.owns(key) {
            return;
        }
        let alone = self.assigned().len() == 1;
        let (before, reported) = (self.object.clone(), self.reported());
        let mut body = self.seen(key);
        // What a member says of `Synced` is nobody's business.
        let lie = json!({"type": synced::SYNCED, "status": "True", "reason": "Mine"});
        body["status"] = json!({"n": n, "conditions": [lie]});
        if self.answer(key, &body, Part::Status, cut) {
            self.expected.insert(key, vec![Some(n)]);
            if alone {
                assert_eq!(
                    self.reported(),
                    Some(json!({"n": n})),
                    "alone, it speaks for the object"
                );
                self.check_synced();
            }
        } else if let Some(possible) = self.expected.get_mut(key) {
            possible.push(Some(n));
        }
        if !alone {
            assert_eq!(self.reported(), reported, "it spoke for the others");
        }
        assert_eq!(
            bare(&self.object),
            bare(&before),
            "a report changed something else"
        );
    }

    fn leave(&mut self, key: &'static str, cut: bool) {
        if !self.assigned().contains(&key) {
            return;
        }
        let keys = TargetKeys::new(key);
        set_annotation(&mut self.object, &keys.deletion, "2026-01-01T00:00:00Z");
        let mut body = self.seen(key);
        remove_finalizer(&mut body, &keys.finalizer);
        if !self.answer(key, &body, Part::Main, cut) {
            self.expected.entry(key).or_default().push(None);
            return;
        }
        let contributed = self
            .expected
            .remove(key)
            .is_some_and(|e| !e.contains(&None));
        if self.assigned().is_empty() {
            assert_eq!(self.synced(), None, "it is to be nowhere");
        }
        let [stays] = self.assigned()[..] else { return };
        match self.expected.get(stays).map(Vec::as_slice) {
            Some([Some(n)]) if self.owns(stays) => {
                assert_eq!(
                    self.reported(),
                    Some(json!({"n": n})),
                    "the heir's report is lost"
                );
                self.check_synced();
            }
            Some([None]) if contributed => assert_eq!(self.reported(), None),
            _ => {}
        }
    }

    fn vanish(&mut self, key: &str) {
        let keys = TargetKeys::new(key);
        remove_label(&mut self.object, &keys.state);
        remove_finalizer(&mut self.object, &keys.finalizer);
        remove_annotation(&mut self.object, &keys.deletion);
    }

    fn summarise(&mut self) {
        if self.assigned().len() > 1 {
            self.keep_reports();
            self.set_status(json!({"summary": true}));
        }
    }

    fn lose(&mut self) {
        if self.assigned().len() == 1 {
            self.keep_reports();
            self.set_status(json!({"unknown": true}));
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Assign(k) => self.assign(KEYS[k]),
            Step::Own(k) => self.own(KEYS[k]),
            Step::Report(k, n, cut) => self.report(KEYS[k], n, cut),
            Step::Refuse(k, cut) => self.speak(KEYS[k], Some(KEYS[k]), cut),
            Step::Take(k, cut) => self.speak(KEYS[k], None, cut),
            Step::Leave(k, cut) => self.leave(KEYS[k], cut),
            Step::Vanish(k) => self.vanish(KEYS[k]),
            Step::Summarise => self.summarise(),
            Step::Lose => self.lose(),
        }
    }

    /// Every target finds its own report in its view, and nobody else's.
    fn check(&self) {
        assert!(
            self.refused || self.synced().is_none(),
            "nobody ever refused it"
        );
        for key in self.assigned() {
            let shown = self.seen(key).get("status").cloned();
            let possible: Vec<_> = self.expected[key]
                .iter()
                .map(|n| n.map(|n| json!({"n": n})))
                .collect();
            assert!(
                possible.contains(&shown),
                "{key} sees {shown:?}, not {possible:?}"
            );
        }
    }
}

/// An object without what a report may change: status, the reports of all, and the words made of them.
fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(members) = object.as_object_mut() {
        members.remove("status");
    }
    for key in KEYS {
        remove_annotation(&mut object, &TargetKeys::new(key).diff);
    }
    remove_annotation(&mut object, keys::MESSAGE_ANNOTATION);
    object
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// No interleaving shows one target another's report, loses a report in a hand-over, or lets a
    /// target change what is not its own; an answer that was cut off heals when it is sent again.
    #[test]
    fn each_target_finds_its_own_report_whatever_the_others_do(
        history in prop::collection::vec(steps(), 1..40), last in 0..9_i64,
    ) {
        let mut world = World::new();
        for step in history {
            world.take(step);
            world.check();
        }
        for key in world.assigned() {
            world.own(key);
            world.report(key, last, false);
            world.check();
        }
    }
}

/// A history that was once worth writing down.
fn history(steps: &[Step]) -> World {
    let mut world = World::new();
    for step in steps {
        world.take(*step);
        world.check();
    }
    world
}

#[test]
fn a_second_target_takes_nothing_from_the_first_even_before_it_has_a_copy() {
    let world = history(&[
        Step::Assign(0),
        Step::Own(0),
        Step::Report(0, 1, false),
        Step::Assign(1),
    ]);
    // The first target's next answer keeps its report apart, though only it owns a copy.
    let mut world = world;
    world.report("k1", 2, false);
    assert_eq!(
        world.object["status"],
        json!({"n": 1}),
        "left to the coordinator"
    );
    world.own("k2");
    let kept = recorded(&world.object, &TargetKeys::new("k1").diff).expect("report");
    assert_eq!(kept["status"], json!({"n": 2}));
}

#[test]
fn the_first_answer_of_a_second_target_keeps_the_promoted_report_of_the_first() {
    let mut world = history(&[
        Step::Assign(0),
        Step::Own(0),
        Step::Report(0, 1, false),
        Step::Assign(1),
    ]);
    world.own("k2");
    let kept = recorded(&world.object, &TargetKeys::new("k1").diff).expect("report");
    assert_eq!(kept["status"], json!({"n": 1}));
}

#[test]
fn a_returning_lost_target_speaks_for_the_object_again_with_its_next_report() {
    let mut world = history(&[
        Step::Assign(0),
        Step::Own(0),
        Step::Report(0, 1, false),
        Step::Lose,
    ]);
    assert_eq!(world.seen("k1")["status"], json!({"n": 1}));
    world.report("k1", 2, false);
    assert_eq!(world.object["status"], json!({"n": 2}));
    let own = recorded(&world.object, &TargetKeys::new("k1").diff).expect("report");
    assert_eq!(own["status"], PROMOTED);
}

#[test]
fn a_lost_target_that_leaves_takes_the_unknown_status_with_it() {
    let world = history(&[
        Step::Assign(0),
        Step::Own(0),
        Step::Report(0, 1, false),
        Step::Lose,
        Step::Leave(0, false),
    ]);
    assert_eq!(world.object.get("status"), None);
}

#[test]
fn what_a_vanished_target_left_behind_is_dropped_by_the_next_report() {
    let world = history(&[
        Step::Assign(0),
        Step::Own(0),
        Step::Report(0, 1, false),
        Step::Vanish(0),
        Step::Assign(1),
        Step::Own(1),
        Step::Report(1, 2, false),
        Step::Assign(0),
    ]);
    assert_eq!(
        world.seen("k1").get("status"),
        None,
        "not the other's report"
    );
}

#[test]
fn a_hand_over_that_was_cut_off_after_the_status_is_finished_by_the_next_try() {
    let mut world = history(&[
        Step::Assign(0),
        Step::Assign(1),
        Step::Own(0),
        Step::Own(1),
        Step::Report(0, 1, false),
        Step::Report(1, 2, false),
        Step::Summarise,
        Step::Leave(0, true),
    ]);
    assert_eq!(
        world.assigned(),
        ["k1", "k2"],
        "only the status was written"
    );
    assert_eq!(world.object["status"], json!({"n": 2}));
    world.leave("k1", false);
    world.check();
    assert_eq!(world.assigned(), ["k2"]);
    assert_eq!(world.object["status"], json!({"n": 2}));
}

#[test]
fn a_status_that_the_target_no_longer_reports_is_no_longer_the_objects() {
    let mut world = history(&[Step::Assign(0), Step::Own(0), Step::Report(0, 1, false)]);
    let mut body = world.seen("k1");
    body.as_object_mut().expect("object").remove("status");
    world.answer("k1", &body, Part::Status, false);
    assert_eq!(world.object.get("status"), None);
    assert_eq!(world.seen("k1").get("status"), None);
}
