//! The door of the store.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot, watch};

use crate::engine::Engine;
use crate::state::State;
use crate::writer::{Answer, Driver, Job, Writer};
use crate::{CommitError, Compacted, Entry, Error, Key, Mutation, Options, Revision, Watcher};

/// Keys looked at in one hold of the lock.
const CHUNK: usize = 512;
/// Further keys that are counted to say how many remain after a page.
const COUNTED: usize = 2048;
/// Tries of reading the newest state in pieces before it is read in one.
const PIECEMEAL_TRIES: usize = 3;

/// What the store, its writer and its watchers share.
pub(crate) struct Shared<M> {
    pub(crate) state: RwLock<State<M>>,
}

/// A part of a range, cut from one revision.
#[derive(Debug)]
pub struct Page<M> {
    /// Entries in key order.
    pub entries: Vec<Arc<Entry<M>>>,
    /// The revision all of them are cut from; a continued page has to ask for it.
    pub revision: Revision,
    /// Whether keys follow after the last one.
    pub more: bool,
    /// How many follow, where it is cheap to know; `Some(0)` exactly if none does.
    pub remaining: Option<usize>,
}

/// Sizes of a store, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The last revision.
    pub revision: Revision,
    /// Oldest revision that can be read or resumed from.
    pub floor: Revision,
    /// Keys that exist.
    pub keys: usize,
    /// Events remembered.
    pub events: usize,
    /// Bytes held for the sake of history.
    pub history_bytes: usize,
    /// Watchers that exist.
    pub watchers: usize,
}

/// How writes get to the writer.
enum Door<M> {
    Queue {
        sender: Mutex<Option<mpsc::Sender<Job<M>>>>,
        finished: watch::Receiver<()>,
    },
    Inline(Mutex<Option<Writer<M>>>),
}

/// A revisioned key-value store. Clones are the same store.
///
/// When the last clone is dropped the writer finishes what is queued and ends on its own;
/// [`close`](Self::close) waits for that.
pub struct Store<M> {
    shared: Arc<Shared<M>>,
    door: Arc<Door<M>>,
}

impl<M> Clone for Store<M> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            door: self.door.clone(),
        }
    }
}

impl<M> std::fmt::Debug for Store<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store(revision {})", self.revision())
    }
}

impl<M: Send + Sync + 'static> Store<M> {
    /// Reads what the engine holds into memory and starts the writer, on a thread of its own
    /// unless `options.inline`. `extract` makes the metadata of loaded values. Blocks while the
    /// engine loads.
    ///
    /// # Errors
    /// As [`Engine::load`], or if no thread can be started.
    pub fn open(
        engine: Box<dyn Engine>,
        extract: impl Fn(&Key, &Bytes) -> M,
        options: Options,
    ) -> Result<Self, Error> {
        if options.inline {
            let (shared, writer) = load(engine, extract, options)?;
            let door = Arc::new(Door::Inline(Mutex::new(Some(writer))));
            return Ok(Self { shared, door });
        }
        let (store, driver) = Self::open_with_driver(engine, extract, options)?;
        std::thread::Builder::new()
            .name("tmc-store-writer".to_owned())
            .spawn(move || driver.run_blocking())
            .map_err(|error| Error::Other(error.into()))?;
        Ok(store)
    }

    /// As [`open`](Self::open), but the writer is a future that the caller runs, for example as a
    /// task of a simulation.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn open_with_driver(
        engine: Box<dyn Engine>,
        extract: impl Fn(&Key, &Bytes) -> M,
        options: Options,
    ) -> Result<(Self, Driver<M>), Error> {
        let (sender, queue) = mpsc::channel(options.queue.max(1));
        let (running, finished) = watch::channel(());
        let (shared, writer) = load(engine, extract, options)?;
        let door = Arc::new(Door::Queue {
            sender: Mutex::new(Some(sender)),
            finished,
        });
        Ok((Self { shared, door }, Driver::new(writer, queue, running)))
    }

    /// Writes one key, if it is as expected.
    ///
    /// **Durability.** `Ok` means that the engine has it on disk, that every read from now on sees
    /// it and that watchers are being told. **Ordering.** Writes get consecutive revisions.
    /// **Cancellation.** Dropped before the write is queued, it has no effect; dropped later, the
    /// write happens anyway. Waits while the queue is full.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn commit(&self, mutation: Mutation<M>) -> Answer<M> {
        let (reply, answer) = oneshot::channel();
        let job = Job { mutation, reply };
        match &*self.door {
            Door::Inline(writer) => {
                writer
                    .lock()
                    .as_mut()
                    .ok_or(CommitError::Closed)?
                    .process([job]);
            }
            Door::Queue { sender, .. } => {
                let sender = sender.lock().clone().ok_or(CommitError::Closed)?;
                sender.send(job).await.map_err(|_| CommitError::Closed)?;
            }
        }
        answer.await.unwrap_or(Err(CommitError::Closed))
    }

    /// Closes the write side: writes that are queued, or wait to be, still happen, later ones are
    /// answered [`CommitError::Closed`]. Returns when the engine is closed, so that its file can
    /// be opened again. Reads go on from memory; watchers hear nothing more.
    pub async fn close(&self) {
        match &*self.door {
            Door::Inline(writer) => drop(writer.lock().take()),
            Door::Queue { sender, finished } => {
                drop(sender.lock().take());
                // Nothing is ever sent: the error is the end.
                while finished.clone().changed().await.is_ok() {}
            }
        }
    }
}

impl<M> Store<M> {
    /// The current version of a key.
    pub fn get(&self, key: &str) -> Option<Arc<Entry<M>>> {
        self.shared.state.read().get(key).cloned()
    }

    /// The last revision that is visible.
    pub fn revision(&self) -> Revision {
        self.shared.state.read().revision()
    }

    /// How many keys start with `prefix` now. Constant time for a whole resource.
    pub fn count(&self, prefix: &str) -> usize {
        if let Some(count) = self.shared.state.read().known_count(prefix) {
            return count;
        }
        let mut cut = Cut::new(prefix, None, usize::MAX);
        self.read_newest(&mut cut);
        cut.live
    }

    /// The entries whose keys start with `prefix`, in key order: as they are now, or as they were
    /// at revision `at` (a revision that does not exist yet means now), after the key
    /// `start_after`, at most `limit` of them unless that is 0.
    ///
    /// **Consistency.** All are cut from one revision, whatever is written meanwhile; the lock is
    /// not held for longer than a few hundred keys.
    ///
    /// # Errors
    /// [`Compacted`] if `at` is below the floor. Never without `at`.
    pub fn range(
        &self,
        prefix: &str,
        at: Option<Revision>,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Page<M>, Compacted> {
        let limit = if limit == 0 { usize::MAX } else { limit };
        let mut cut = Cut::new(prefix, start_after, limit).collecting();
        match at {
            Some(at) => self.read(&mut cut, Some(at), CHUNK)?,
            None => self.read_newest(&mut cut),
        }
        let (entries, revision) = (cut.entries, cut.at);
        let more = cut.live > entries.len();
        let counted = cut.done.then_some(cut.live - entries.len());
        let remaining = counted.or_else(|| self.remaining(prefix, start_after, &entries, revision));
        Ok(Page {
            entries,
            revision,
            more,
            remaining,
        })
    }

    /// What remains of a whole resource after its first page is known without counting.
    fn remaining(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        entries: &[Arc<Entry<M>>],
        revision: Revision,
    ) -> Option<usize> {
        let state = self.shared.state.read();
        let known = start_after.is_none() && state.revision() == revision;
        let count = known.then(|| state.known_count(prefix)).flatten()?;
        Some(count - entries.len())
    }

    /// Reads the newest state: restarts in the rare case that the history is compacted past the
    /// revision read, at last without letting the lock go.
    fn read_newest(&self, cut: &mut Cut<'_, M>) {
        for attempt in 0.. {
            let chunk = if attempt < PIECEMEAL_TRIES {
                CHUNK
            } else {
                usize::MAX
            };
            if self.read(cut, None, chunk).is_ok() {
                return;
            }
            cut.restart();
        }
    }

    fn read(
        &self,
        cut: &mut Cut<'_, M>,
        at: Option<Revision>,
        chunk: usize,
    ) -> Result<(), Compacted> {
        let mut at = at;
        loop {
            let state = self.shared.state.read();
            let revision = at.unwrap_or(state.revision()).min(state.revision());
            state.check(revision)?;
            at = Some(revision);
            cut.at = revision;
            if !cut.advance(&state, chunk) {
                return Ok(());
            }
        }
    }

    /// Watches the keys that start with `prefix` for changes after the revision `after`.
    ///
    /// # Errors
    /// [`Compacted`] if `after` is below the floor. At or above it resuming always works, however
    /// long these keys have been quiet.
    pub fn watch(&self, prefix: &str, after: Revision) -> Result<Watcher<M>, Compacted> {
        Watcher::new(&self.shared, prefix, Some(after))
    }

    /// The newest entries under `prefix` and a watcher that goes on from exactly there.
    pub fn list_and_watch(&self, prefix: &str) -> (Page<M>, Watcher<M>) {
        loop {
            let Ok(page) = self.range(prefix, None, None, 0) else {
                continue;
            };
            // Fails only if the revision just read is compacted already.
            if let Ok(watcher) = self.watch(prefix, page.revision) {
                return (page, watcher);
            }
        }
    }

    /// Sizes, for metrics.
    pub fn stats(&self) -> Stats {
        let state = self.shared.state.read();
        Stats {
            revision: state.revision(),
            floor: state.floor(),
            keys: state.live(),
            events: state.log().len(),
            history_bytes: state.log().bytes(),
            watchers: state.watchers(),
        }
    }
}

fn load<M: Send + Sync + 'static>(
    mut engine: Box<dyn Engine>,
    extract: impl Fn(&Key, &Bytes) -> M,
    options: Options,
) -> Result<(Arc<Shared<M>>, Writer<M>), Error> {
    let loaded = engine.load()?;
    let state = State::restore(loaded, extract, options.clock.now(), &options);
    let shared = Arc::new(Shared {
        state: RwLock::new(state),
    });
    let writer = Writer::new(shared.clone(), engine, options);
    Ok((shared, writer))
}

/// A read of a range that can be interrupted.
struct Cut<'a, M> {
    prefix: &'a str,
    after: Option<&'a str>,
    /// Last key looked at.
    resume: Option<Key>,
    at: Revision,
    limit: usize,
    collect: bool,
    entries: Vec<Arc<Entry<M>>>,
    /// Keys that exist, those beyond the page included as far as they were looked at.
    live: usize,
    /// Whether the range was read to its end.
    done: bool,
}

impl<'a, M> Cut<'a, M> {
    fn new(prefix: &'a str, after: Option<&'a str>, limit: usize) -> Self {
        let (resume, entries) = (None, Vec::new());
        Self {
            prefix,
            after,
            resume,
            at: 0,
            limit,
            collect: false,
            entries,
            live: 0,
            done: false,
        }
    }

    fn collecting(mut self) -> Self {
        self.collect = true;
        self
    }

    fn restart(&mut self) {
        self.resume = None;
        self.entries.clear();
        self.live = 0;
    }

    /// Looks at the next `chunk` keys; true if it has to go on.
    fn advance(&mut self, state: &State<M>, chunk: usize) -> bool {
        let resume = self.resume.take();
        let after = resume.as_deref().or(self.after);
        let mut last: Option<&Key> = None;
        for (looked_at, (key, entry)) in state.scan(self.prefix, after, self.at).enumerate() {
            if looked_at == chunk {
                self.resume = last.cloned();
                return true;
            }
            last = Some(key);
            let Some(entry) = entry else { continue };
            self.live += 1;
            if self.collect && self.entries.len() < self.limit {
                self.entries.push(entry.clone());
            } else if self.collect && self.live - self.entries.len() > COUNTED {
                return false;
            }
        }
        self.done = true;
        false
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::engine::Memory;
    use crate::{Expect, Mutation};

    #[test]
    fn a_read_that_starts_again_reads_the_same() {
        let options = Options {
            inline: true,
            ..Options::default()
        };
        let store = Store::open(Box::new(Memory::default()), |_, _| (), options).unwrap();
        for n in 0..10 {
            let key = format!("a/b/c/d/{n}").into();
            let encode = Box::new(|_| (Bytes::new(), ()));
            let put = Mutation {
                key,
                expect: Expect::Absent,
                encode,
                delete: false,
            };
            store.commit(put).now_or_never().unwrap().unwrap();
        }
        let mut cut = Cut::new("a/", None, usize::MAX).collecting();
        cut.at = 10;
        assert!(cut.advance(&store.shared.state.read(), 4));
        assert!(cut.advance(&store.shared.state.read(), 4));
        assert_eq!((cut.entries.len(), cut.live, cut.done), (8, 8, false));
        cut.restart();
        store.read(&mut cut, None, 3).unwrap();
        let revisions: Vec<_> = cut.entries.iter().map(|entry| entry.revision).collect();
        assert!(revisions.into_iter().eq(1..=10));
        assert_eq!((cut.live, cut.done), (10, true));
    }
}
