//! Who refers to whom; kept up to date change by change. A value: no store, no clock.
//!
//! An object is known by its *identity*, `<logical cluster>/<uid>` ([`identity`]): a reference never
//! reaches an object of another logical cluster, whatever uid it names.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tmc_store::Key;

/// Removals that are remembered: proof that an owner is gone and not just elsewhere.
const REMEMBERED: usize = 4096;

type Identity = Arc<str>;

/// The identity of an object of a logical cluster.
pub(crate) fn identity(cluster: &str, uid: &str) -> String {
    format!("{cluster}/{uid}")
}

/// One change of one object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub key: Key,
    /// The object's identity; may be empty unless it is gone or waits for its dependents.
    pub identity: String,
    /// Identities of the owners that it refers to now.
    pub owners: Vec<String>,
    /// It is being deleted and waits for its dependents.
    pub leaving: bool,
    /// It is gone.
    pub deleted: bool,
}

/// The references of all objects.
#[derive(Default)]
pub(crate) struct Index {
    dependents: HashMap<Identity, BTreeSet<Key>>,
    owners: HashMap<Key, Box<[Identity]>>,
    /// Owners that wait for their dependents.
    leaving: HashMap<Identity, Key>,
    waiting: HashMap<Key, Identity>,
    gone: Gone,
}

#[derive(Default)]
struct Gone {
    known: HashSet<Identity>,
    order: VecDeque<Identity>,
}

impl Gone {
    fn add(&mut self, uid: Identity) {
        if !self.known.insert(uid.clone()) {
            return;
        }
        self.order.push_back(uid);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl Index {
    /// Takes in a change; returns the keys of what has to be looked at because of it.
    pub(crate) fn observe(&mut self, change: &Change) -> BTreeSet<Key> {
        let mut work = BTreeSet::new();
        let before = self.owners.get(&change.key).cloned().unwrap_or_default();
        let now: &[String] = if change.deleted { &[] } else { &change.owners };
        let same = before
            .iter()
            .map(AsRef::as_ref)
            .eq(now.iter().map(String::as_str));
        if !same {
            self.replace(&change.key, &before, now);
            if !now.is_empty() {
                work.insert(change.key.clone());
            }
        }
        // Whoever waits for this object may not have to any longer.
        let touched = before.iter().map(AsRef::as_ref);
        let touched = touched.chain(now.iter().map(String::as_str));
        work.extend(touched.filter_map(|uid| self.leaving.get(uid).cloned()));
        self.observe_end(change, &mut work);
        work
    }

    fn replace(&mut self, key: &Key, before: &[Identity], now: &[String]) {
        for uid in before {
            if let Some(keys) = self.dependents.get_mut(uid) {
                keys.remove(key);
                if keys.is_empty() {
                    self.dependents.remove(uid);
                }
            }
        }
        let mut owners: Vec<Identity> = Vec::with_capacity(now.len());
        for uid in now {
            let known = self.dependents.get_key_value(uid.as_str());
            let uid: Identity = known.map_or_else(|| uid.as_str().into(), |(uid, _)| uid.clone());
            self.dependents
                .entry(uid.clone())
                .or_default()
                .insert(key.clone());
            owners.push(uid);
        }
        if owners.is_empty() {
            self.owners.remove(key);
        } else {
            self.owners.insert(key.clone(), owners.into());
        }
    }

    /// The object as an owner: on its way out, or out.
    fn observe_end(&mut self, change: &Change, work: &mut BTreeSet<Key>) {
        if let Some(uid) = self.waiting.remove(&change.key) {
            self.leaving.remove(&uid);
        }
        let ends = change.deleted || change.leaving;
        if !ends || change.identity.is_empty() {
            return;
        }
        let uid: Identity = change.identity.as_str().into();
        work.extend(self.dependents.get(&uid).into_iter().flatten().cloned());
        if change.deleted {
            self.gone.add(uid);
        } else {
            work.insert(change.key.clone());
            self.leaving.insert(uid.clone(), change.key.clone());
            self.waiting.insert(change.key.clone(), uid);
        }
    }

    /// Keys of the objects that refer to an owner.
    pub(crate) fn dependents(&self, identity: &str) -> impl Iterator<Item = &Key> {
        self.dependents.get(identity).into_iter().flatten()
    }

    /// Whether an object has been seen to go, not too long ago.
    pub(crate) fn has_seen_end(&self, identity: &str) -> bool {
        self.gone.known.contains(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, uid: &str, owners: &[&str]) -> Change {
        Change {
            key: key.into(),
            identity: uid.into(),
            owners: owners.iter().map(|o| (*o).to_owned()).collect(),
            leaving: false,
            deleted: false,
        }
    }

    fn leaving(change: Change) -> Change {
        Change {
            leaving: true,
            ..change
        }
    }

    fn deleted(change: Change) -> Change {
        Change {
            deleted: true,
            ..change
        }
    }

    fn observe(index: &mut Index, change: &Change) -> Vec<String> {
        let work = index.observe(change);
        work.iter().map(|key| key.to_string()).collect()
    }

    #[test]
    fn the_end_of_an_owner_is_work_on_its_dependents_alone() {
        let mut index = Index::default();
        assert_eq!(observe(&mut index, &put("x", "ux", &["o"])), ["x"]);
        assert_eq!(observe(&mut index, &put("y", "uy", &["p"])), ["y"]);
        assert_eq!(observe(&mut index, &deleted(put("o", "o", &[]))), ["x"]);
        assert!(index.has_seen_end("o") && !index.has_seen_end("p"));
    }

    #[test]
    fn a_change_that_touches_no_reference_is_no_work() {
        let mut index = Index::default();
        observe(&mut index, &put("x", "ux", &["o"]));
        assert!(observe(&mut index, &put("x", "ux", &["o"])).is_empty());
        assert!(observe(&mut index, &put("o", "o", &[])).is_empty());
    }

    #[test]
    fn a_leaving_owner_is_looked_at_when_a_dependent_changes_or_goes() {
        let mut index = Index::default();
        observe(&mut index, &put("x", "ux", &["o"]));
        assert_eq!(
            observe(&mut index, &leaving(put("o", "o", &[]))),
            ["o", "x"]
        );
        assert_eq!(observe(&mut index, &put("x", "ux", &["o"])), ["o"]);
        assert_eq!(observe(&mut index, &deleted(put("x", "ux", &["o"]))), ["o"]);
        observe(&mut index, &deleted(put("o", "o", &[])));
        assert_eq!(observe(&mut index, &put("z", "uz", &["o"])), ["z"]);
    }

    #[test]
    fn nothing_is_left_of_objects_that_are_gone() {
        let mut index = Index::default();
        for change in [
            put("x", "ux", &["o", "p"]),
            put("x", "ux", &["p"]),
            leaving(put("p", "p", &[])),
            deleted(put("x", "ux", &["p"])),
            deleted(put("p", "p", &[])),
        ] {
            observe(&mut index, &change);
        }
        assert!(index.dependents.is_empty() && index.owners.is_empty());
        assert!(index.leaving.is_empty() && index.waiting.is_empty());
    }

    #[test]
    fn only_the_last_removals_are_remembered() {
        let mut index = Index::default();
        for number in 0..=REMEMBERED {
            let name = number.to_string();
            index.observe(&deleted(put(&name, &name, &[])));
        }
        assert!(!index.has_seen_end("0"));
        assert!(index.has_seen_end("1"));
        assert_eq!(index.gone.known.len(), REMEMBERED);
    }
}
