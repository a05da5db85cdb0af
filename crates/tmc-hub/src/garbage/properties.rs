//! The collector's pure parts, driven over arbitrary graphs of objects in arbitrary order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tmc_apimachinery::options::Propagation;
use tmc_store::Key;

use super::decide::{Object, OwnerState, Reference, Verdict, Waiting, judge, waits_for};
use super::index::{Change, Index};

/// Objects by key; an object's uid is its key.
struct World {
    objects: BTreeMap<Key, Object>,
    index: Index,
    work: BTreeSet<Key>,
}

impl World {
    /// Objects `0..owners.len()`, each with references to others; `blocking` says how.
    fn new(owners: &[Vec<usize>], blocking: bool) -> Self {
        let mut world = Self {
            objects: BTreeMap::new(),
            index: Index::default(),
            work: BTreeSet::new(),
        };
        for (number, owners) in owners.iter().enumerate() {
            let unique: BTreeSet<usize> = owners.iter().copied().collect();
            let reference = |owner: usize| Reference {
                uid: owner.to_string(),
                block_owner_deletion: Some(blocking),
                ..Reference::default()
            };
            let object = Object {
                uid: number.to_string(),
                references: unique.into_iter().map(reference).collect(),
                ..Object::default()
            };
            world.objects.insert(number.to_string().into(), object);
        }
        // All were there before the first one is looked at.
        for key in world.objects.keys().cloned().collect::<Vec<_>>() {
            world.publish(&key, None);
        }
        world
    }

    /// Tells the index of an object's present state, or of its end.
    fn publish(&mut self, key: &Key, last: Option<&Object>) {
        let Some(object) = last.or_else(|| self.objects.get(key)) else {
            return;
        };
        let change = Change {
            key: key.clone(),
            identity: object.uid.clone(),
            owners: object.references.iter().map(|r| r.uid.clone()).collect(),
            leaving: object.deleting && (object.orphan || object.foreground),
            deleted: last.is_some(),
        };
        self.work.extend(self.index.observe(&change));
    }

    fn update(&mut self, key: &Key, change: impl FnOnce(&mut Object)) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        change(object);
        if object.deleting && !object.orphan && !object.foreground {
            if let Some(last) = self.objects.remove(key) {
                self.publish(key, Some(&last));
            }
            return;
        }
        self.publish(key, None);
    }

    /// What the API does with a delete.
    fn delete(&mut self, key: &Key, propagation: Propagation) {
        self.update(key, |object| {
            object.deleting = true;
            object.orphan = propagation == Propagation::Orphan;
            object.foreground = propagation == Propagation::Foreground;
        });
    }

    fn dependents(&self, key: &str) -> Vec<(Key, Object)> {
        let found = self.index.dependents(key);
        found
            .filter_map(|key| Some((key.clone(), self.objects.get(key)?.clone())))
            .collect()
    }

    fn state(&self, reference: &Reference) -> OwnerState {
        match self.objects.get(reference.uid.as_str()) {
            Some(owner) if owner.is_leaving() => OwnerState::Leaving,
            Some(_) => OwnerState::Living,
            None => OwnerState::Gone,
        }
    }

    fn look(&mut self, key: &Key) {
        let Some(object) = self.objects.get(key).cloned() else {
            return;
        };
        let dependents = self.dependents(key);
        let objects = || dependents.iter().map(|(_, object)| object.clone());
        match waits_for(&object, objects()) {
            Waiting::Nothing | Waiting::ForDependents => {}
            Waiting::NoLonger(_) => self.update(key, |object| {
                object.orphan = false;
                object.foreground = false;
            }),
            Waiting::ForOrphans => {
                for (dependent, _) in &dependents {
                    self.update(dependent, |d| d.references.retain(|r| r.uid != object.uid));
                }
            }
        }
        let owners: Vec<OwnerState> = object.references.iter().map(|r| self.state(r)).collect();
        match judge(&object, &owners, objects()) {
            Verdict::Keep => {}
            Verdict::Forget(owners) => {
                self.update(key, |o| o.references.retain(|r| !owners.contains(&r.uid)));
            }
            Verdict::Delete {
                propagation,
                unblock,
            } => {
                let living = owners.contains(&OwnerState::Living);
                assert!(!living, "{key} is deleted although an owner lives");
                if unblock {
                    self.update(key, |object| {
                        for reference in &mut object.references {
                            reference.block_owner_deletion = Some(false);
                        }
                    });
                }
                self.delete(key, propagation);
            }
        }
    }

    /// Works until nothing is left to do, in an order that `choices` picks.
    fn settle(&mut self, choices: &[usize]) {
        for step in 0.. {
            assert!(step < 10_000, "it does not come to an end");
            let pick = choices[step % choices.len()] % self.work.len().max(1);
            let Some(key) = self.work.iter().nth(pick).cloned() else {
                return;
            };
            self.work.remove(&key);
            self.look(&key);
        }
    }

    fn left(&self) -> BTreeSet<usize> {
        let numbers = self.objects.keys().map(|key| key.parse());
        numbers.map(|number| number.expect("a number")).collect()
    }
}

/// Graphs without circles: an object's owners have smaller numbers.
fn trees() -> impl Strategy<Value = Vec<Vec<usize>>> {
    prop::collection::vec(prop::collection::vec(0..64_usize, 0..3), 1..12).prop_map(|raw| {
        let below = |(number, owners): (usize, Vec<usize>)| {
            let owners = owners.into_iter().filter(|_| number > 0);
            owners.map(|owner| owner % number.max(1)).collect()
        };
        raw.into_iter().enumerate().map(below).collect()
    })
}

/// Any graph of objects that own each other, circles included.
fn graphs() -> impl Strategy<Value = Vec<Vec<usize>>> {
    (1..10_usize)
        .prop_flat_map(|size| prop::collection::vec(prop::collection::vec(0..size, 0..3), size))
}

fn orders() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..64_usize, 1..20)
}

/// What is left when `root` goes: whatever has an owner that is left, or never had one.
fn survivors(owners: &[Vec<usize>], root: usize) -> BTreeSet<usize> {
    let mut left = BTreeSet::new();
    for (number, owners) in owners.iter().enumerate() {
        let kept = owners.is_empty() || owners.iter().any(|owner| left.contains(owner));
        if number != root && kept {
            left.insert(number);
        }
    }
    left
}

proptest! {
    #[test]
    fn nothing_goes_while_all_owners_are_there(owners in graphs(), order in orders()) {
        let mut world = World::new(&owners, true);
        world.settle(&order);
        prop_assert_eq!(world.left().len(), owners.len());
    }

    #[test]
    fn exactly_what_only_the_deleted_owner_kept_goes_in_whatever_order(
        owners in trees(), root in 0..64_usize, order in orders(), foreground: bool, blocking: bool,
    ) {
        let root = root % owners.len();
        let mut world = World::new(&owners, blocking);
        let propagation = if foreground { Propagation::Foreground } else { Propagation::Background };
        world.delete(&root.to_string().into(), propagation);
        world.settle(&order);
        prop_assert_eq!(world.left(), survivors(&owners, root));
        let dangling = world.objects.values().flat_map(|o| &o.references);
        let dangling = dangling.filter(|r| !world.objects.contains_key(r.uid.as_str())).count();
        prop_assert_eq!(dangling, 0, "references to what is gone are gone too");
    }

    #[test]
    fn orphans_stay(owners in trees(), root in 0..64_usize, order in orders()) {
        let root = root % owners.len();
        let mut world = World::new(&owners, true);
        world.delete(&root.to_string().into(), Propagation::Orphan);
        world.settle(&order);
        let mut all: BTreeSet<usize> = (0..owners.len()).collect();
        all.remove(&root);
        prop_assert_eq!(world.left(), all);
    }

    #[test]
    fn a_foreground_deletion_comes_to_an_end_in_circles_too(
        owners in graphs(), root in 0..64_usize, order in orders(),
    ) {
        let root = root % owners.len();
        let mut world = World::new(&owners, true);
        world.delete(&root.to_string().into(), Propagation::Foreground);
        world.settle(&order);
        prop_assert!(!world.left().contains(&root));
        prop_assert!(world.objects.values().all(|object| !object.deleting));
    }

    #[test]
    fn a_restart_in_the_middle_changes_nothing(
        owners in trees(), root in 0..64_usize, order in orders(), done in 0..20_usize,
    ) {
        let root = root % owners.len();
        let mut world = World::new(&owners, true);
        world.delete(&root.to_string().into(), Propagation::Background);
        for _ in 0..done {
            if let Some(key) = world.work.pop_first() {
                world.look(&key);
            }
        }
        let mut restarted = World::new(&[], true);
        restarted.objects = world.objects;
        for key in restarted.objects.keys().cloned().collect::<Vec<_>>() {
            restarted.publish(&key, None);
        }
        restarted.settle(&order);
        prop_assert_eq!(restarted.left(), survivors(&owners, root));
    }
}
