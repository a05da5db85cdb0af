//! Random histories against a store that is simple enough to be right.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt as _;
use proptest::prelude::*;
use support::*;
use tmc_store::{CommitError, Expect, Options, Revision};

const PREFIXES: [&str; 8] = [
    "",
    "apps/",
    "apps/x/",
    "apps/x/a/",
    "apps/x/a/ns/",
    "apps/x/b/",
    "core/y/",
    "core/y/never/",
];

#[derive(Clone, Debug)]
enum Step {
    /// Writes a key; the expectation is right unless `stale`.
    Put {
        key: usize,
        stale: bool,
        size: usize,
    },
    Delete {
        key: usize,
        stale: bool,
    },
    List {
        prefix: usize,
        back: u64,
    },
    Pages {
        prefix: usize,
        back: u64,
        limit: usize,
    },
    Watch {
        prefix: usize,
        back: u64,
    },
    Drain {
        watcher: usize,
        most: usize,
    },
    Pass {
        seconds: u64,
    },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..24_usize;
    let prefix = 0..PREFIXES.len();
    let stale = prop::bool::weighted(0.1);
    prop_oneof![
        12 => (key.clone(), stale, 0..3000_usize)
            .prop_map(|(key, stale, size)| Step::Put { key, stale, size }),
        5 => (key, stale).prop_map(|(key, stale)| Step::Delete { key, stale }),
        3 => (prefix.clone(), 0..60_u64).prop_map(|(prefix, back)| Step::List { prefix, back }),
        2 => (prefix.clone(), 0..60_u64, 1..6_usize)
            .prop_map(|(prefix, back, limit)| Step::Pages { prefix, back, limit }),
        3 => (prefix, 0..60_u64).prop_map(|(prefix, back)| Step::Watch { prefix, back }),
        4 => (0..8_usize, 1..4_usize)
            .prop_map(|(watcher, most)| Step::Drain { watcher, most }),
        3 => (0..120_u64).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Reopen),
    ]
}

fn key_of(n: usize) -> String {
    let resource = ["apps/x", "apps/x-y", "core/y"][n % 3];
    let cluster = ["a", "b", "ab", "a-b"][n / 3 % 4];
    format!("{resource}/{cluster}/ns/{}", n / 12)
}

/// The model: all that ever happened.
#[derive(Default)]
struct Model {
    /// (key, text of the value or `None` for a delete); revision = position + 1.
    history: Vec<(String, Option<String>)>,
}

impl Model {
    fn head(&self) -> Revision {
        self.history.len() as Revision
    }

    fn at(&self, revision: Revision, prefix: &str) -> BTreeMap<String, String> {
        let mut state = BTreeMap::new();
        for (key, text) in &self.history[..usize::try_from(revision).unwrap()] {
            match text {
                Some(text) => state.insert(key.clone(), text.clone()),
                None => state.remove(key),
            };
        }
        state.retain(|key, _| key.starts_with(prefix));
        state
    }

    fn current(&self, key: &str) -> Option<Revision> {
        let last = self.history.iter().rposition(|(k, _)| k == key)?;
        self.history[last]
            .1
            .is_some()
            .then_some(last as Revision + 1)
    }

    /// Revisions after `cursor` under `prefix`.
    fn after<'a>(
        &'a self,
        cursor: Revision,
        prefix: &'a str,
    ) -> impl Iterator<Item = Revision> + 'a {
        let all = (1..).zip(&self.history);
        let matching = move |(r, (key, _)): &(Revision, &(String, Option<String>))| {
            *r > cursor && key.starts_with(prefix)
        };
        all.filter(matching).map(|(revision, _)| revision)
    }
}

struct Watching {
    prefix: &'static str,
    watcher: Watcher,
    /// All matching events up to here were seen.
    cursor: Revision,
}

struct Run {
    bed: Bed,
    store: Store,
    model: Model,
    watchers: Vec<Watching>,
}

fn options(bed: &Bed) -> Options {
    Options {
        inline: true,
        log_bytes: 8 << 10,
        ..bed.options()
    }
}

impl Run {
    fn new(bed: Bed) -> Self {
        let store = bed.open_with(options(&bed));
        Self {
            bed,
            store,
            model: Model::default(),
            watchers: Vec::new(),
        }
    }

    fn floor(&self) -> Revision {
        self.store.stats().floor
    }

    fn write(&mut self, key: usize, stale: bool, text: Option<String>) {
        let key = key_of(key);
        let current = self.model.current(&key);
        let expect = match (current, stale) {
            (Some(revision), false) => Expect::Revision(revision),
            (None, true) => Expect::Revision(self.model.head()),
            (Some(_), true) | (None, false) => Expect::Absent,
        };
        let delete = text.is_none();
        let mutation = mutation(&key, expect, text.as_deref().unwrap_or("gone"), delete);
        let result = self.store.commit(mutation).now_or_never().unwrap();
        match result {
            Err(CommitError::Conflict { current: found }) => {
                assert!(stale || (delete && current.is_none()));
                assert_eq!(found.map(|entry| entry.revision), current);
            }
            Err(error) => panic!("{error}"),
            Ok(event) => {
                assert!(!stale && (!delete || current.is_some()));
                assert_eq!(event.revision, self.model.head() + 1);
                assert_eq!(event.previous.as_ref().map(|p| p.revision), current);
                self.model.history.push((key, text));
            }
        }
    }

    fn list(&self, prefix: &'static str, at: Revision) {
        match self.store.range(prefix, Some(at), None, 0) {
            Err(compacted) => {
                assert!(at < compacted.floor);
                assert_eq!(compacted.floor, self.floor());
            }
            Ok(page) => {
                assert!(at >= self.floor());
                let found: BTreeMap<_, _> = page
                    .entries
                    .iter()
                    .map(|e| (e.key.to_string(), e.meta.clone()))
                    .collect();
                assert_eq!(found, self.model.at(at, prefix));
            }
        }
    }

    fn pages(&self, prefix: &'static str, at: Revision, limit: usize) {
        if at < self.floor() {
            return;
        }
        let expected = self.model.at(at, prefix);
        let mut found = Vec::new();
        loop {
            let after = found.last().map(|key: &String| key.as_str());
            let page = self.store.range(prefix, Some(at), after, limit).unwrap();
            found.extend(page.entries.iter().map(|e| e.key.to_string()));
            assert_eq!(page.more, found.len() < expected.len());
            assert_eq!(page.remaining, Some(expected.len() - found.len()));
            if !page.more {
                break;
            }
        }
        assert!(expected.keys().eq(found.iter()));
    }

    fn watch(&mut self, prefix: &'static str, after: Revision) {
        match self.store.watch(prefix, after) {
            Err(_) => assert!(after < self.floor()),
            Ok(watcher) => {
                assert!(after >= self.floor());
                self.watchers.push(Watching {
                    prefix,
                    watcher,
                    cursor: after,
                });
            }
        }
    }

    /// Reads from a watcher; drops it when it was overrun.
    fn drain(&mut self, index: usize, most: usize) {
        if self.watchers.is_empty() {
            return;
        }
        let index = index % self.watchers.len();
        for _ in 0..most {
            let floor = self.floor();
            let watching = &mut self.watchers[index];
            let mut expected = self.model.after(watching.cursor, watching.prefix);
            match watching.watcher.next().now_or_never() {
                None => assert_eq!(expected.next(), None),
                Some(Err(_)) => {
                    let missed = expected.next().is_some_and(|first| first <= floor);
                    let too_coarse = watching.prefix.matches('/').count() < 2
                        || watching.prefix.matches('/').count() == 4;
                    assert!(missed || too_coarse, "nothing it needs was forgotten");
                    self.watchers.swap_remove(index);
                    return;
                }
                Some(Ok(events)) => {
                    assert!((1..=32).contains(&events.len()));
                    for event in &events {
                        assert_eq!(Some(event.revision), expected.next());
                        let (key, text) = &self.model.history[event.revision as usize - 1];
                        assert_eq!((&*event.entry.key, event.deleted), (&**key, text.is_none()));
                        assert_eq!(revision_of(&event.entry.value), event.revision);
                    }
                    watching.cursor = events.last().unwrap().revision;
                }
            }
            let watching = &self.watchers[index];
            let progress = watching.watcher.progress();
            assert!(progress >= watching.cursor);
            let skipped = self.model.after(watching.cursor, watching.prefix).next();
            assert!(
                skipped.is_none_or(|next| progress < next),
                "a bookmark skips {skipped:?}"
            );
        }
    }

    fn reopen(&mut self) {
        if !self.bed.is_durable() {
            return;
        }
        self.watchers.clear();
        let floor = self.floor();
        self.store.close().now_or_never().unwrap();
        self.store = self.bed.open_with(options(&self.bed));
        assert_eq!(self.floor(), floor);
    }

    fn step(&mut self, step: Step) {
        let head = self.model.head();
        match step {
            Step::Put { key, stale, size } => {
                self.write(key, stale, Some(format!("{head}{}", "x".repeat(size))));
            }
            Step::Delete { key, stale } => self.write(key, stale, None),
            Step::List { prefix, back } => self.list(PREFIXES[prefix], head.saturating_sub(back)),
            Step::Pages {
                prefix,
                back,
                limit,
            } => {
                self.pages(PREFIXES[prefix], head.saturating_sub(back), limit);
            }
            Step::Watch { prefix, back } => self.watch(PREFIXES[prefix], head.saturating_sub(back)),
            Step::Drain { watcher, most } => self.drain(watcher, most),
            Step::Pass { seconds } => self.bed.pass(Duration::from_secs(seconds)),
            Step::Reopen => self.reopen(),
        }
        assert_eq!(self.store.revision(), self.model.head());
    }

    fn finish(mut self) {
        for prefix in PREFIXES {
            let expected = self.model.at(self.model.head(), prefix);
            assert_eq!(list(&self.store, prefix, None), expected);
            assert_eq!(self.store.count(prefix), expected.len());
            self.list(prefix, self.floor());
        }
        while !self.watchers.is_empty() {
            self.drain(0, 1000);
            self.watchers.pop();
        }
        assert_eq!(self.store.stats().watchers, 0);
    }
}

fn check(bed: Bed, steps: Vec<Step>) {
    let mut run = Run::new(bed);
    for step in steps {
        run.step(step);
    }
    run.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_history_on_the_memory_engine_reads_as_the_model(
        steps in prop::collection::vec(step(), 1..400)
    ) {
        check(Bed::memory(), steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_history_on_redb_reads_as_the_model_across_reopening(
        steps in prop::collection::vec(step(), 1..200)
    ) {
        check(Bed::redb(), steps);
    }
}
