//! What an informer knows: objects by key, with named indexes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::RwLock;
use tmc_apimachinery::ClusterName;
use tokio::sync::watch;

/// Identity of an object on a hub, without its kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterKey {
    /// Logical cluster.
    pub cluster: ClusterName,
    /// Namespace, empty for cluster-scoped.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ClusterKey {
    /// Key of a namespaced object (or of a cluster-scoped one, with an empty namespace).
    pub fn new(cluster: &ClusterName, namespace: &str, name: &str) -> Self {
        Self {
            cluster: cluster.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl std::fmt::Display for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}|", self.cluster)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// A change in a store, seen by handlers after the store has it.
pub enum Change<'a, T> {
    /// New or changed; the version before, if any.
    Applied {
        /// Before.
        old: Option<&'a Arc<T>>,
        /// Now.
        new: &'a Arc<T>,
    },
    /// Gone; the last state that the store had. (What the server's last write changed besides was
    /// never seen by anyone: handlers that compare would take it for known.)
    Deleted(&'a Arc<T>),
}

impl<'a, T> Change<'a, T> {
    /// The newest state there is: of a deleted object the last one known.
    pub fn latest(&self) -> &'a Arc<T> {
        match self {
            Self::Applied { new, .. } => new,
            Self::Deleted(last) => last,
        }
    }

    /// The state before, if any: of a deleted object the last one.
    pub fn before(&self) -> Option<&'a Arc<T>> {
        match self {
            Self::Applied { old, .. } => *old,
            Self::Deleted(last) => Some(last),
        }
    }
}

pub(crate) type IndexFn<T> = Box<dyn Fn(&ClusterKey, &T) -> Vec<String> + Send + Sync>;

/// One object with what is compared to find changes.
pub(crate) struct Entry<T> {
    pub(crate) object: Arc<T>,
    pub(crate) uid: Box<str>,
    pub(crate) version: Box<str>,
    /// Bytes that it takes of a budget.
    pub(crate) weight: usize,
}

/// A named index: the keys found under each value.
struct Index<T> {
    name: &'static str,
    values: IndexFn<T>,
    keys: HashMap<String, BTreeSet<Arc<ClusterKey>>>,
}

impl<T> Index<T> {
    /// Finds a key where its object stands now instead of where it stood before. Most changes move
    /// nothing, and cost no look at the keys.
    fn update(&mut self, key: &Arc<ClusterKey>, old: Option<&T>, new: Option<&T>) {
        let values = |object: Option<&T>| object.map(|object| (self.values)(key, object));
        let (before, after) = (values(old), values(new));
        if before == after {
            return;
        }
        for value in before.into_iter().flatten() {
            if let Some(keys) = self.keys.get_mut(&value) {
                keys.remove(key);
                if keys.is_empty() {
                    self.keys.remove(&value);
                }
            }
        }
        for value in after.into_iter().flatten() {
            self.keys.entry(value).or_default().insert(Arc::clone(key));
        }
    }
}

struct State<T> {
    /// Found by hash: whoever lists puts them in order.
    objects: HashMap<Arc<ClusterKey>, Entry<T>>,
    indexes: Vec<Index<T>>,
}

struct Inner<T> {
    state: RwLock<State<T>>,
    synced: watch::Sender<bool>,
}

/// What an informer knows. Cheap to clone.
///
/// # Ordering
/// Each read sees one moment; two reads may see two. After a handler was called for a change, reads
/// see that change or a later one.
pub struct Store<T>(Arc<Inner<T>>);

impl<T> Clone for Store<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        let state = State {
            objects: HashMap::new(),
            indexes: Vec::new(),
        };
        Self(Arc::new(Inner {
            state: RwLock::new(state),
            synced: watch::Sender::new(false),
        }))
    }
}

impl<T> Store<T> {
    /// One object.
    pub fn get(&self, key: &ClusterKey) -> Option<Arc<T>> {
        self.0
            .state
            .read()
            .objects
            .get(key)
            .map(|entry| Arc::clone(&entry.object))
    }

    /// Every object with this value in the named index, in key order. An index that does not exist
    /// finds nothing.
    pub fn by_index(&self, name: &'static str, value: &str) -> Vec<(ClusterKey, Arc<T>)> {
        let state = self.0.state.read();
        let keys = state
            .indexes
            .iter()
            .find(|i| i.name == name)
            .and_then(|i| i.keys.get(value));
        debug_assert!(
            state.indexes.iter().any(|i| i.name == name),
            "no index {name}"
        );
        keys.into_iter()
            .flatten()
            .filter_map(|key| {
                let entry = state.objects.get(&**key)?;
                Some(((**key).clone(), Arc::clone(&entry.object)))
            })
            .collect()
    }

    /// The keys of every object with this value in the named index, in key order.
    pub fn keys_by_index(&self, name: &'static str, value: &str) -> Vec<ClusterKey> {
        let state = self.0.state.read();
        let keys = state
            .indexes
            .iter()
            .find(|i| i.name == name)
            .and_then(|i| i.keys.get(value));
        keys.into_iter()
            .flatten()
            .map(|key| (**key).clone())
            .collect()
    }

    /// How many objects have this value in the named index; as quick with many as with one.
    pub fn count_by_index(&self, name: &'static str, value: &str) -> usize {
        let state = self.0.state.read();
        let index = state.indexes.iter().find(|i| i.name == name);
        index
            .and_then(|i| i.keys.get(value))
            .map_or(0, BTreeSet::len)
    }

    /// Every object, in key order.
    pub fn all(&self) -> Vec<(ClusterKey, Arc<T>)> {
        let state = self.0.state.read();
        let pair = |(key, entry): (&Arc<ClusterKey>, &Entry<T>)| {
            ((**key).clone(), Arc::clone(&entry.object))
        };
        let mut all: Vec<_> = state.objects.iter().map(pair).collect();
        drop(state);
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.0.state.read().objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Resolves once the first list is in.
    pub async fn synced(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.0.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Whether the first list is in.
    pub fn has_synced(&self) -> bool {
        *self.0.synced.borrow()
    }

    pub(crate) fn set_synced(&self) {
        self.0
            .synced
            .send_if_modified(|synced| !std::mem::replace(synced, true));
    }

    /// Adds an index; objects already there are indexed too.
    pub(crate) fn add_index(&self, name: &'static str, values: IndexFn<T>) {
        let mut guard = self.0.state.write();
        let mut index = Index {
            name,
            values,
            keys: HashMap::new(),
        };
        for (key, entry) in &guard.objects {
            index.update(key, None, Some(&entry.object));
        }
        guard.indexes.push(index);
    }

    /// Stores an object; gives the one before.
    pub(crate) fn insert(&self, key: &ClusterKey, entry: Entry<T>) -> Option<Entry<T>> {
        let mut guard = self.0.state.write();
        let state = &mut *guard;
        let known = state
            .objects
            .get_key_value(key)
            .map(|(key, _)| Arc::clone(key));
        let key = known.unwrap_or_else(|| Arc::new(key.clone()));
        let object = Arc::clone(&entry.object);
        let old = state.objects.insert(Arc::clone(&key), entry);
        let before = old.as_ref().map(|old| &*old.object);
        for index in &mut state.indexes {
            index.update(&key, before, Some(&object));
        }
        old
    }

    /// Removes an object; gives it.
    pub(crate) fn remove(&self, key: &ClusterKey) -> Option<Entry<T>> {
        let mut guard = self.0.state.write();
        let state = &mut *guard;
        let (key, old) = state.objects.remove_entry(key)?;
        for index in &mut state.indexes {
            index.update(&key, Some(&old.object), None);
        }
        Some(old)
    }

    /// uid, version and weight of the object that the store has.
    pub(crate) fn version(&self, key: &ClusterKey) -> Option<(Box<str>, Box<str>, usize)> {
        let state = self.0.state.read();
        state
            .objects
            .get(key)
            .map(|entry| (entry.uid.clone(), entry.version.clone(), entry.weight))
    }

    /// The keys that are not in `seen`, in order.
    pub(crate) fn keys_not_in(&self, seen: &HashSet<ClusterKey>) -> Vec<ClusterKey> {
        let state = self.0.state.read();
        let keys = state.objects.keys().filter(|key| !seen.contains(&***key));
        let mut keys: Vec<_> = keys.map(|key| (**key).clone()).collect();
        drop(state);
        keys.sort_unstable();
        keys
    }
}

/// For tests of what reads stores: a store filled by hand, already synced.
impl<T> FromIterator<(ClusterKey, T)> for Store<T> {
    fn from_iter<I: IntoIterator<Item = (ClusterKey, T)>>(objects: I) -> Self {
        let store = Self::default();
        for (key, object) in objects {
            let entry = Entry {
                object: Arc::new(object),
                uid: "".into(),
                version: "".into(),
                weight: 0,
            };
            store.insert(&key, entry);
        }
        store.set_synced();
        store
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(name: &str) -> ClusterKey {
        ClusterKey::new(&ClusterName::new("root"), "", name)
    }

    fn entry(object: u8) -> Entry<u8> {
        Entry {
            object: Arc::new(object),
            uid: "u".into(),
            version: "1".into(),
            weight: 0,
        }
    }

    #[test]
    fn a_key_prints_without_an_empty_namespace() {
        assert_eq!(key("a").to_string(), "root|a");
        let namespaced = ClusterKey::new(&ClusterName::new("root"), "ns", "a");
        assert_eq!(namespaced.to_string(), "root|ns/a");
    }

    #[test]
    fn an_index_added_late_knows_what_is_there() {
        let store: Store<u8> = [(key("a"), 1)].into_iter().collect();
        store.add_index("value", Box::new(|_, v| vec![v.to_string()]));
        assert_eq!(store.keys_by_index("value", "1"), [key("a")]);
    }

    proptest! {
        /// An index is what a scan would find, after any sequence of changes.
        #[test]
        fn indexes_agree_with_a_scan(steps in prop::collection::vec((0_u8..6, prop::option::of(0_u8..3)), 0..60)) {
            let store: Store<u8> = Store::default();
            // Two values an object, so that an object stands in several places.
            let values = |v: u8| vec![format!("v{v}"), format!("odd{}", v % 2)];
            store.add_index("values", Box::new(move |_, v| values(*v)));
            for (name, change) in steps {
                let key = key(&name.to_string());
                match change {
                    Some(value) => drop(store.insert(&key, entry(value))),
                    None => drop(store.remove(&key)),
                }
            }
            for value in ["v0", "v1", "v2", "odd0", "odd1"] {
                let found: Vec<_> = store.keys_by_index("values", value);
                let scan: Vec<_> = store.all().into_iter()
                    .filter(|(_, v)| values(**v).iter().any(|x| x == value)).map(|(k, _)| k).collect();
                prop_assert_eq!(store.count_by_index("values", value), scan.len());
                prop_assert_eq!(found, scan);
            }
        }
    }
}
