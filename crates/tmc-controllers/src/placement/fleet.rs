//! The SyncTargets and Locations of each workspace as scheduling sees them, kept up to date change
//! by change: a Placement reads what is ready, and never all targets times all Locations.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use parking_lot::RwLock;
use tmc_api::scheduling::{Location, ResourceRef, Selector};
use tmc_apimachinery::ClusterName;
use tmc_runtime::ClusterKey;

use super::facts::TargetFacts;

/// A target and the Locations that it belongs to, by name.
#[derive(Clone, Debug)]
pub struct Member {
    /// The target.
    pub facts: Arc<TargetFacts>,
    /// Its Locations, in order of their names; shared by the targets that have the same.
    pub homes: Arc<[String]>,
    /// How many Placements have it.
    pub load: Count,
}

/// A number that whoever counts shares with whoever reads.
#[derive(Clone, Debug, Default)]
pub struct Count(Arc<AtomicU32>);

impl Count {
    /// The number.
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn set(&self, number: u32) {
        self.0.store(number, Ordering::Relaxed);
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn subtract(&self) {
        let less = |count: u32| Some(count.saturating_sub(1));
        // It never refuses.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Whether it is nought and nobody else has it.
    fn is_idle(&self) -> bool {
        self.get() == 0 && Arc::strong_count(&self.0) == 1
    }
}

/// One workspace.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    members: BTreeMap<String, Member>,
    locations: BTreeMap<String, (Arc<Location>, Selector)>,
    /// Every set of Locations that targets have.
    homes: BTreeSet<Arc<[String]>>,
}

/// The targets of one Location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instances {
    /// How many there are.
    pub all: u32,
    /// How many of them would take a new Placement.
    pub available: u32,
    /// When the next of them is drained, which changes the number of those available.
    pub next_drain: Option<Timestamp>,
}

/// What a change of a target led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// It matters to Placements.
    pub matters: bool,
    /// Locations that have it, or had it before.
    pub locations: BTreeSet<String>,
}

impl Fleet {
    /// A workspace with these targets and Locations.
    pub fn new(targets: Vec<TargetFacts>, locations: Vec<Location>) -> Self {
        let mut fleet = Self::default();
        for location in locations {
            let name = location.metadata.name.clone().unwrap_or_default();
            fleet.set_location(&name, Some(&Arc::new(location)));
        }
        for facts in targets {
            let name = facts.target.name.clone();
            fleet.set_target(&name, Some((facts, Count::default())));
        }
        fleet
    }

    /// Its targets, in order of their names.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The target with this name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.get(name)
    }

    /// Its Locations, in order of their names.
    pub fn locations(&self) -> impl Iterator<Item = &Arc<Location>> {
        self.locations.values().map(|(location, _)| location)
    }

    /// Counts the targets of a Location.
    pub fn instances(&self, location: &str, now: Timestamp) -> Instances {
        let mut found = Instances::default();
        let belongs = |member: &&Member| member.homes.iter().any(|home| home == location);
        for facts in self.members().filter(belongs).map(|member| &member.facts) {
            found.all = found.all.saturating_add(1);
            let available = facts.is_available(now);
            found.available = found.available.saturating_add(u32::from(available));
            let drain = facts.evict_after.filter(|at| *at > now);
            found.next_drain = found.next_drain.into_iter().chain(drain).min();
        }
        found
    }

    /// Whether it needs a first Location: it has a target that stays, and no Location of any name.
    pub fn needs_location(&self) -> bool {
        self.locations.is_empty() && self.members().any(|member| !member.facts.deleting)
    }

    /// Puts a target in, or takes it out.
    pub fn set_target(&mut self, name: &str, target: Option<(TargetFacts, Count)>) -> Effect {
        let before = self.members.get(name).cloned();
        let after = target.map(|(facts, load)| Member {
            homes: shared(&mut self.homes, homes(&self.locations, &facts)),
            facts: Arc::new(facts),
            load,
        });
        let matters = match (&before, &after) {
            (Some(before), Some(after)) => {
                before.homes != after.homes || !before.facts.means_the_same(&after.facts)
            }
            (before, after) => before.is_some() || after.is_some(),
        };
        let either = before.iter().chain(&after);
        let locations = either
            .flat_map(|member| member.homes.iter().cloned())
            .collect();
        match after {
            Some(after) => drop(self.members.insert(name.to_owned(), after)),
            None => drop(self.members.remove(name)),
        }
        if before.is_some_and(|before| Arc::strong_count(&before.homes) <= 2) {
            // Nobody else has them: a target that is labelled anew each time leaves nothing behind.
            self.homes.retain(|homes| Arc::strong_count(homes) > 1);
        }
        Effect { matters, locations }
    }

    /// Puts a Location in, or takes it out.
    pub fn set_location(&mut self, name: &str, location: Option<&Arc<Location>>) {
        match location {
            Some(location) => {
                let about_targets = location.spec.resource == ResourceRef::default();
                // One with a bad selector has no instances; its own status tells.
                let selector = location.spec.selector().ok().filter(|_| about_targets);
                let entry = (Arc::clone(location), selector.unwrap_or_default());
                self.locations.insert(name.to_owned(), entry);
            }
            None => drop(self.locations.remove(name)),
        }
        for member in self.members.values_mut() {
            member.homes = shared(&mut self.homes, homes(&self.locations, &member.facts));
        }
        self.homes.retain(|homes| Arc::strong_count(homes) > 1);
    }
}

/// The one among these that is equal: what all targets share stays in the cache while a Placement
/// looks at them.
fn shared(known: &mut BTreeSet<Arc<[String]>>, homes: Arc<[String]>) -> Arc<[String]> {
    match known.get(&*homes) {
        Some(same) => Arc::clone(same),
        None => {
            known.insert(Arc::clone(&homes));
            homes
        }
    }
}

fn homes(
    locations: &BTreeMap<String, (Arc<Location>, Selector)>,
    facts: &TargetFacts,
) -> Arc<[String]> {
    locations
        .iter()
        .filter(|(_, (_, selector))| selector.matches(Some(&facts.labels)))
        .map(|(name, _)| name.clone())
        .collect()
}

/// All workspaces that have targets or Locations.
#[derive(Default)]
pub(crate) struct Fleets(RwLock<HashMap<ClusterName, Fleet>>);

impl Fleets {
    /// Notes a SyncTarget, or that it is gone.
    pub(crate) fn set_target(
        &self,
        key: &ClusterKey,
        target: Option<(TargetFacts, Count)>,
    ) -> Effect {
        self.change(key, |fleet| fleet.set_target(&key.name, target))
    }

    /// Notes a Location, or that it is gone.
    pub(crate) fn set_location(&self, key: &ClusterKey, location: Option<&Arc<Location>>) {
        self.change(key, |fleet| fleet.set_location(&key.name, location));
    }

    /// Changes one workspace, of which nothing is kept once it has neither.
    fn change<T>(&self, key: &ClusterKey, change: impl FnOnce(&mut Fleet) -> T) -> T {
        let mut fleets = self.0.write();
        let fleet = fleets.entry(key.cluster.clone()).or_default();
        let result = change(fleet);
        if fleet.members.is_empty() && fleet.locations.is_empty() {
            fleets.remove(&key.cluster);
        }
        result
    }

    /// How many targets there are.
    pub(crate) fn count(&self) -> usize {
        self.0.read().values().map(|f| f.members.len()).sum()
    }

    /// Reads one workspace. Nothing changes meanwhile, so it must be quick.
    pub(crate) fn read<T>(&self, cluster: &ClusterName, read: impl FnOnce(&Fleet) -> T) -> T {
        let fleets = self.0.read();
        match fleets.get(cluster) {
            Some(fleet) => read(fleet),
            None => read(&Fleet::default()),
        }
    }
}

/// How many Placements have each target: those that the hub told of, and what was written since.
#[derive(Default)]
pub(crate) struct Loads(RwLock<Counted>);

#[derive(Default)]
struct Counted {
    count: HashMap<String, Count>,
    of: HashMap<ClusterKey, Vec<String>>,
}

impl Counted {
    fn set(&mut self, placement: &ClusterKey, targets: Vec<String>) {
        let before = if targets.is_empty() {
            self.of.remove(placement)
        } else {
            self.of.insert(placement.clone(), targets.clone())
        };
        for target in targets {
            self.count.entry(target).or_default().add();
        }
        for target in before.into_iter().flatten() {
            if let Some(count) = self.count.get(&target) {
                count.subtract();
            }
            self.forget(&target);
        }
    }

    fn forget(&mut self, target: &str) {
        if self.count.get(target).is_some_and(Count::is_idle) {
            self.count.remove(target);
        }
    }
}

impl Loads {
    /// Notes the keys of the targets that a Placement has.
    pub(crate) fn set(&self, placement: &ClusterKey, targets: Vec<String>) {
        self.0.write().set(placement, targets);
    }

    /// The number of a target, by its key.
    pub(crate) fn of(&self, target: &str) -> Count {
        let mut counted = self.0.write();
        counted.count.entry(target.to_owned()).or_default().clone()
    }

    /// Forgets a target that is gone, unless a Placement still has it.
    pub(crate) fn forget(&self, target: &str) {
        self.0.write().forget(target);
    }

    /// Decides on a Placement while nobody decides on another: in `decide` every decision before it is
    /// counted. It gives the keys of the targets that this one has from now on. It must be quick, and
    /// must not come back here.
    pub(crate) fn decide<T>(
        &self,
        placement: &ClusterKey,
        decide: impl FnOnce() -> (T, Vec<String>),
    ) -> T {
        let mut counted = self.0.write();
        let (result, targets) = decide();
        counted.set(placement, targets);
        result
    }

    /// How many Placements have a target.
    pub(crate) fn placements(&self) -> usize {
        self.0.read().of.len()
    }

    /// How many targets are counted.
    pub(crate) fn targets(&self) -> usize {
        self.0.read().count.len()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tmc_api::workload::SyncTarget;

    use super::*;

    fn cluster() -> ClusterName {
        ClusterName::new("c")
    }

    fn counted(name: &str, labels: Value, ready: bool) -> (TargetFacts, Count) {
        (facts(name, labels, ready), Count::default())
    }

    fn facts(name: &str, labels: Value, ready: bool) -> TargetFacts {
        let status = if ready { "True" } else { "False" };
        let target: SyncTarget = serde_json::from_value(json!({
            "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
            "metadata": {"name": name, "uid": "u", "labels": labels}, "spec": {},
            "status": {"conditions": [{"type": "Ready", "status": status}]},
        }))
        .unwrap();
        TargetFacts::new(&cluster(), &target)
    }

    fn location(name: &str, selector: Value) -> Arc<Location> {
        let object = json!({
            "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Location",
            "metadata": {"name": name}, "spec": {"instanceSelector": selector},
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn key(name: &str) -> ClusterKey {
        ClusterKey::new(&cluster(), "", name)
    }

    fn homes(fleets: &Fleets, name: &str) -> Vec<String> {
        fleets.read(&cluster(), |fleet| {
            fleet.member(name).unwrap().homes.to_vec()
        })
    }

    #[test]
    fn a_target_belongs_to_every_location_that_selects_it_whichever_came_first() {
        let fleets = Fleets::default();
        let eu = json!({"matchLabels": {"location": "eu"}});
        fleets.set_location(&key("eu"), Some(&location("eu", eu)));
        fleets.set_target(
            &key("t"),
            Some(counted("t", json!({"location": "eu"}), true)),
        );
        fleets.set_location(&key("all"), Some(&location("all", json!({}))));
        fleets.set_location(&key("none"), Some(&location("none", json!(null))));
        let near = json!({"matchExpressions": [{"key": "a", "operator": "Near"}]});
        fleets.set_location(&key("bad"), Some(&location("bad", near)));
        assert_eq!(homes(&fleets, "t"), ["all", "eu"]);
        fleets.set_location(&key("eu"), None);
        assert_eq!(homes(&fleets, "t"), ["all"]);
        fleets.read(&ClusterName::new("other"), |fleet| {
            assert_eq!(fleet.members().count(), 0);
        });
    }

    #[test]
    fn of_a_workspace_without_targets_and_locations_nothing_is_kept() {
        let fleets = Fleets::default();
        fleets.set_location(&key("all"), Some(&location("all", json!({}))));
        fleets.set_target(&key("t"), Some(counted("t", json!({}), true)));
        fleets.set_location(&key("all"), None);
        assert_eq!(fleets.count(), 1);
        fleets.set_target(&key("t"), None);
        assert!(fleets.0.read().is_empty());
        // Nor of one that is gone twice.
        fleets.set_target(&key("t"), None);
        assert!(fleets.0.read().is_empty());
    }

    #[test]
    fn a_change_matters_if_scheduling_would_see_it() {
        let mut fleet = Fleet::default();
        fleet.set_location("all", Some(&location("all", json!({}))));
        let east = json!({"location": "east"});
        let new = fleet.set_target("t", Some(counted("t", east.clone(), true)));
        assert!(new.matters);
        assert_eq!(new.locations, BTreeSet::from(["all".to_owned()]));
        assert!(
            !fleet
                .set_target("t", Some(counted("t", east.clone(), true)))
                .matters
        );
        assert!(
            fleet
                .set_target("t", Some(counted("t", east, false)))
                .matters
        );
        assert!(fleet.set_target("t", None).matters);
        assert!(!fleet.set_target("t", None).matters);
    }

    #[test]
    fn a_decision_sees_those_before_it() {
        let (loads, fleets) = (Loads::default(), Fleets::default());
        let target = (facts("t", json!({}), true), loads.of("a"));
        fleets.set_target(&key("t"), Some(target));
        let load = || fleets.read(&cluster(), |fleet| fleet.member("t").unwrap().load.get());
        let decide = |placement: &str, targets: Vec<String>| {
            loads.decide(&key(placement), || (load(), targets))
        };
        let a = || vec!["a".to_owned()];
        // The third is about the first's Placement again, which keeps what it has.
        let seen = ["p", "q", "p"].map(|placement| decide(placement, a()));
        assert_eq!(seen, [0, 1, 2]);
        assert_eq!(decide("q", vec![]), 2);
        assert_eq!(load(), 1);
    }

    #[test]
    fn a_load_counts_what_each_placement_has_now_and_of_targets_that_are_gone_nothing_is_kept() {
        let loads = Loads::default();
        let count = |target: &str| loads.0.read().count.get(target).map(Count::get);
        loads.set(&key("p"), vec!["a".into(), "b".into()]);
        loads.set(&key("q"), vec!["a".into()]);
        assert_eq!((count("a"), count("b")), (Some(2), Some(1)));
        loads.set(&key("p"), vec!["a".into()]);
        loads.set(&key("q"), vec![]);
        assert_eq!((count("a"), count("b")), (Some(1), None));
        // A target that came after its Placements has their number, and keeps it without them.
        let a = loads.of("a");
        assert_eq!(a.get(), 1);
        loads.forget("a");
        loads.set(&key("p"), vec![]);
        assert_eq!((a.get(), count("a")), (0, Some(0)));
        drop(a);
        loads.forget("a");
        assert_eq!(loads.targets(), 0);
    }

    #[test]
    fn targets_with_the_same_locations_share_them() {
        let mut fleet = Fleet::default();
        for name in ["a", "b"] {
            fleet.set_target(name, Some(counted(name, json!({}), true)));
        }
        fleet.set_location("all", Some(&location("all", json!({}))));
        let homes = |fleet: &Fleet, name| Arc::clone(&fleet.member(name).unwrap().homes);
        assert!(Arc::ptr_eq(&homes(&fleet, "a"), &homes(&fleet, "b")));
        assert_eq!(fleet.homes.len(), 1, "nobody has none any more");
    }
}
