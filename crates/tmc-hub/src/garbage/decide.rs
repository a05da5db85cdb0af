//! What becomes of an object, from what is known about its owners and its dependents.

use serde::Deserialize;
use serde_json::Value;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::options::Propagation;

use super::{FOREGROUND, ORPHAN};

/// A reference of an object to an owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    /// The owner's foreground deletion waits for this object.
    #[serde(default)]
    pub block_owner_deletion: Option<bool>,
}

/// What is known about an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnerState {
    /// It is there, with the uid that is referred to.
    Living,
    /// It is being deleted and waits for its dependents.
    Leaving,
    /// It is not there, or is another object of the same name.
    Gone,
    /// It lives in another logical cluster, so it can own nothing here.
    Foreign,
    /// It cannot be known: its kind is not served, or it cannot own this object.
    Unknown,
}

/// An object as far as this matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Object {
    pub uid: String,
    pub references: Vec<Reference>,
    pub deleting: bool,
    pub orphan: bool,
    pub foreground: bool,
}

impl Object {
    /// Reads an object. References that are not well-formed are none: they name no owner whose end
    /// could be known, so the object counts as one with an owner that cannot be known.
    pub(crate) fn of(object: &Value) -> Self {
        let at = meta(object);
        let read = |reference| Reference::deserialize(reference).unwrap_or_default();
        Self {
            uid: at.uid().to_owned(),
            references: at.owner_references().iter().map(read).collect(),
            deleting: at.is_being_deleted(),
            orphan: at.has_finalizer(ORPHAN),
            foreground: at.has_finalizer(FOREGROUND),
        }
    }

    /// Whether it waits for its dependents.
    pub(crate) fn is_leaving(&self) -> bool {
        self.deleting && self.foreground
    }

    /// Whether it holds up the foreground deletion of an owner. Nothing waits for itself.
    pub(crate) fn blocks(&self, owner: &str) -> bool {
        let blocks = |r: &Reference| r.uid == owner && r.block_owner_deletion == Some(true);
        self.uid != owner && self.references.iter().any(blocks)
    }
}

/// What becomes of an object because of its owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It stays as it is.
    Keep,
    /// It stays, without the references to these owners.
    Forget(Vec<String>),
    /// It goes. `unblock` first lets its own owners go without it: it is part of a circle.
    Delete {
        propagation: Propagation,
        unblock: bool,
    },
}

/// Judges an object by its owners, one state for each reference. `dependents` are the objects that
/// refer to it; they are not asked for unless they matter.
pub(crate) fn judge(
    object: &Object,
    owners: &[OwnerState],
    dependents: impl IntoIterator<Item = Object>,
) -> Verdict {
    let knows = |state| owners.contains(&state);
    if object.deleting || owners.is_empty() || knows(OwnerState::Unknown) {
        return Verdict::Keep;
    }
    let without = |kept: &[OwnerState]| {
        let states = object.references.iter().zip(owners);
        let lost = states.filter(|(_, state)| !kept.contains(state));
        let lost: Vec<String> = lost.map(|(r, _)| r.uid.clone()).collect();
        if lost.is_empty() {
            Verdict::Keep
        } else {
            Verdict::Forget(lost)
        }
    };
    // Taken out while it can still be told from one to an owner that is gone.
    if knows(OwnerState::Foreign) {
        return without(&[OwnerState::Living, OwnerState::Leaving, OwnerState::Gone]);
    }
    if knows(OwnerState::Living) {
        return without(&[OwnerState::Living]);
    }
    if knows(OwnerState::Leaving) {
        let mut dependents = dependents.into_iter().peekable();
        if dependents.peek().is_some() {
            return Verdict::Delete {
                propagation: Propagation::Foreground,
                unblock: dependents.any(|dependent| dependent.is_leaving()),
            };
        }
    }
    let propagation = match (object.orphan, object.foreground) {
        (true, _) => Propagation::Orphan,
        (_, true) => Propagation::Foreground,
        _ => Propagation::Background,
    };
    Verdict::Delete {
        propagation,
        unblock: false,
    }
}

/// What an owner that is being deleted waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// For nothing of this kind.
    Nothing,
    /// Its dependents have to be told that they have no owner.
    ForOrphans,
    /// The dependents that block it have to go.
    ForDependents,
    /// It does not have to wait any longer: this finalizer goes.
    NoLonger(&'static str),
}

/// Judges an owner by its dependents, of which no more are asked for than needed.
pub(crate) fn waits_for(owner: &Object, dependents: impl IntoIterator<Item = Object>) -> Waiting {
    let mut dependents = dependents.into_iter();
    if !owner.deleting {
        return Waiting::Nothing;
    }
    if owner.orphan {
        return if dependents.next().is_none() {
            Waiting::NoLonger(ORPHAN)
        } else {
            Waiting::ForOrphans
        };
    }
    if !owner.foreground {
        return Waiting::Nothing;
    }
    if dependents.any(|object| object.blocks(&owner.uid)) {
        Waiting::ForDependents
    } else {
        Waiting::NoLonger(FOREGROUND)
    }
}

/// Takes the references to owners out of an object; says whether there were any.
pub(crate) fn forget(object: &mut Value, owners: &[String]) -> bool {
    let Some(list) = object.pointer_mut("/metadata/ownerReferences") else {
        return false;
    };
    let Some(references) = list.as_array_mut() else {
        return false;
    };
    let before = references.len();
    references.retain(|r| !owners.iter().any(|owner| r["uid"] == owner.as_str()));
    let changed = references.len() != before;
    if references.is_empty() {
        tmc_apimachinery::meta::remove(object, "ownerReferences");
    }
    changed
}

/// Lets all owners of an object go without it; says whether that changed anything.
pub(crate) fn unblock(object: &mut Value) -> bool {
    let references = object
        .pointer_mut("/metadata/ownerReferences")
        .and_then(Value::as_array_mut);
    let mut changed = false;
    for reference in references.into_iter().flatten() {
        if reference["blockOwnerDeletion"] == true {
            reference["blockOwnerDeletion"] = false.into();
            changed = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use OwnerState::{Foreign, Gone, Leaving, Living, Unknown};
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn owned(count: usize) -> Object {
        let reference = |number| Reference {
            uid: format!("o{number}"),
            block_owner_deletion: Some(true),
            ..Reference::default()
        };
        Object {
            uid: "u".into(),
            references: (0..count).map(reference).collect(),
            ..Object::default()
        }
    }

    fn delete(propagation: Propagation) -> Verdict {
        Verdict::Delete {
            propagation,
            unblock: false,
        }
    }

    #[rstest]
    #[case::nobodys(&[], Verdict::Keep)]
    #[case::alive(&[Living], Verdict::Keep)]
    #[case::gone(&[Gone], delete(Propagation::Background))]
    #[case::all_gone(&[Gone, Gone], delete(Propagation::Background))]
    #[case::one_alive(&[Gone, Living], Verdict::Forget(vec!["o0".into()]))]
    #[case::one_alive_one_leaving(&[Living, Leaving, Gone], Verdict::Forget(vec!["o1".into(), "o2".into()]))]
    #[case::unknown(&[Unknown], Verdict::Keep)]
    #[case::unknown_beside_gone(&[Gone, Unknown], Verdict::Keep)]
    #[case::unknown_beside_alive(&[Living, Gone, Unknown], Verdict::Keep)]
    #[case::foreign(&[Foreign], Verdict::Forget(vec!["o0".into()]))]
    #[case::foreign_beside_gone(&[Gone, Foreign], Verdict::Forget(vec!["o1".into()]))]
    #[case::foreign_beside_unknown(&[Unknown, Foreign], Verdict::Keep)]
    #[case::leaving(&[Leaving], delete(Propagation::Background))]
    fn an_object_goes_with_its_last_owner(#[case] owners: &[OwnerState], #[case] then: Verdict) {
        assert_eq!(judge(&owned(owners.len()), owners, []), then);
    }

    #[test]
    fn an_object_of_a_leaving_owner_takes_its_own_dependents_along_first() {
        let child = owned(1);
        let verdict = judge(&owned(1), &[Leaving], [child.clone()]);
        assert_eq!(verdict, delete(Propagation::Foreground));
        let circle = Object {
            deleting: true,
            foreground: true,
            ..child
        };
        let verdict = judge(&owned(1), &[Leaving], [circle]);
        let unblocked = Verdict::Delete {
            propagation: Propagation::Foreground,
            unblock: true,
        };
        assert_eq!(verdict, unblocked);
    }

    #[rstest]
    #[case(true, false, Propagation::Orphan)]
    #[case(false, true, Propagation::Foreground)]
    fn a_finalizer_set_before_decides_how_an_object_goes(
        #[case] orphan: bool,
        #[case] foreground: bool,
        #[case] propagation: Propagation,
    ) {
        let object = Object {
            orphan,
            foreground,
            ..owned(1)
        };
        assert_eq!(judge(&object, &[Gone], []), delete(propagation));
    }

    #[test]
    fn an_object_that_is_being_deleted_is_not_deleted_again() {
        let object = Object {
            deleting: true,
            ..owned(1)
        };
        assert_eq!(judge(&object, &[Gone], []), Verdict::Keep);
    }

    #[rstest]
    #[case::not_deleted(false, true, true, Waiting::Nothing)]
    #[case::background(true, false, false, Waiting::Nothing)]
    #[case::orphan(true, true, false, Waiting::ForOrphans)]
    #[case::foreground(true, false, true, Waiting::ForDependents)]
    fn an_owner_waits_for_its_dependents(
        #[case] deleting: bool,
        #[case] orphan: bool,
        #[case] foreground: bool,
        #[case] then: Waiting,
    ) {
        let owner = Object {
            uid: "o0".into(),
            deleting,
            orphan,
            foreground,
            ..Object::default()
        };
        assert_eq!(waits_for(&owner, [owned(1)]), then);
        let alone = waits_for(&owner, []);
        let expected = match then {
            Waiting::ForOrphans => Waiting::NoLonger(ORPHAN),
            Waiting::ForDependents => Waiting::NoLonger(FOREGROUND),
            other => other,
        };
        assert_eq!(alone, expected);
    }

    #[test]
    fn an_owner_does_not_wait_for_dependents_that_do_not_block_it() {
        let owner = Object {
            uid: "o0".into(),
            deleting: true,
            foreground: true,
            ..Object::default()
        };
        let mut free = owned(2);
        free.references[0].block_owner_deletion = Some(false);
        assert_eq!(waits_for(&owner, [free]), Waiting::NoLonger(FOREGROUND));
    }

    #[test]
    fn references_are_forgotten_by_uid_and_unblocked_together() {
        let mut object = json!({"metadata": {"ownerReferences": [
            {"uid": "a", "blockOwnerDeletion": true}, {"uid": "b"}]}});
        assert!(unblock(&mut object));
        assert!(!unblock(&mut object));
        assert!(!forget(&mut object, &["c".into()]));
        assert!(forget(&mut object, &["a".into()]));
        assert_eq!(object["metadata"]["ownerReferences"], json!([{"uid": "b"}]));
        assert!(forget(&mut object, &["b".into()]));
        assert_eq!(object, json!({"metadata": {}}));
    }

    #[test]
    fn a_malformed_reference_is_one_that_names_nobody() {
        let object = json!({"metadata": {"ownerReferences": [{"uid": 3}, "x"]}});
        let read = Object::of(&object);
        assert_eq!(read.references, vec![Reference::default(); 2]);
    }
}
