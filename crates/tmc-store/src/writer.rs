//! The one writer: gives changes their revisions, makes them durable, publishes, answers.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::engine::{Compaction, Engine, Record};
use crate::store::Shared;
use crate::{CommitError, Entry, Error, Event, Expect, Key, Mutation, Options, Revision};

/// History a batch forgets, beside four times its own size: enough to keep up, not enough to make
/// one write pay for a backlog.
const FORGET: usize = 64;

/// What a caller of `commit` gets.
pub(crate) type Answer<M> = Result<Arc<Event<M>>, CommitError<M>>;

/// A queued write.
pub(crate) struct Job<M> {
    pub(crate) mutation: Mutation<M>,
    pub(crate) reply: oneshot::Sender<Answer<M>>,
}

pub(crate) struct Writer<M> {
    shared: Arc<Shared<M>>,
    engine: Box<dyn Engine>,
    options: Options,
}

/// Changes that are decided but not yet durable.
struct Batch<M> {
    events: Vec<Arc<Event<M>>>,
    /// State of the keys written in this batch.
    staged: HashMap<Key, Option<Arc<Entry<M>>>>,
    head: Revision,
}

impl<M> Batch<M> {
    fn stage(&mut self, mutation: Mutation<M>, shared: &Shared<M>) -> Answer<M> {
        let Mutation {
            key,
            expect,
            encode,
            delete,
        } = mutation;
        let current = match self.staged.get(&key) {
            Some(staged) => staged.clone(),
            None => shared.state.read().get(&key).cloned(),
        };
        let expected = match (expect, &current) {
            (Expect::Absent, None) => !delete,
            (Expect::Revision(revision), Some(entry)) => entry.revision == revision,
            _ => false,
        };
        if !expected {
            return Err(CommitError::Conflict { current });
        }
        let revision = self.head + 1;
        let encoded = catch_unwind(AssertUnwindSafe(|| encode(revision)));
        let (value, meta) = encoded
            .map_err(|_| CommitError::Failed("the value could not be encoded".to_owned()))?;
        // One allocation for all versions of a key.
        let key = current.as_ref().map_or(key, |current| current.key.clone());
        let created = current.as_ref().map_or(revision, |current| current.created);
        let entry = Arc::new(Entry {
            key: key.clone(),
            value,
            meta,
            created,
            revision,
        });
        self.head = revision;
        self.staged.insert(key, (!delete).then(|| entry.clone()));
        let event = Arc::new(Event {
            revision,
            entry,
            previous: current,
            deleted: delete,
        });
        self.events.push(event.clone());
        Ok(event)
    }

    fn records(&self) -> Vec<Record> {
        let record = |event: &Arc<Event<M>>| Record {
            revision: event.revision,
            created: event.entry.created,
            key: event.entry.key.clone(),
            value: event.entry.value.clone(),
            deleted: event.deleted,
        };
        self.events.iter().map(record).collect()
    }

    /// Whether an answer rests on a change of this batch.
    fn supports(&self, answer: &Answer<M>) -> bool {
        match answer {
            Ok(_) => true,
            Err(CommitError::Conflict {
                current: Some(entry),
            }) => self
                .events
                .first()
                .is_some_and(|first| first.revision <= entry.revision),
            // Which key was missing is not known here; being wrong this way is safe.
            Err(CommitError::Conflict { current: None }) => !self.events.is_empty(),
            Err(_) => false,
        }
    }
}

impl<M: Send + Sync + 'static> Writer<M> {
    pub(crate) fn new(shared: Arc<Shared<M>>, engine: Box<dyn Engine>, options: Options) -> Self {
        Self {
            shared,
            engine,
            options,
        }
    }

    /// Decides, stores, publishes and answers a batch.
    pub(crate) fn process(&mut self, jobs: impl IntoIterator<Item = Job<M>>) {
        let head = self.shared.state.read().revision();
        let mut batch = Batch {
            events: Vec::new(),
            staged: HashMap::new(),
            head,
        };
        let mut answers = Vec::new();
        for job in jobs {
            answers.push((job.reply, batch.stage(job.mutation, &self.shared)));
        }
        let stored = if batch.events.is_empty() {
            Ok(None)
        } else {
            self.store(&batch).map(Some)
        };
        if let Err(error) = &stored {
            tracing::error!(%error, writes = batch.events.len(), "writes failed, nothing changed");
            let reason = error.to_string();
            for (_, answer) in &mut answers {
                if batch.supports(answer) {
                    *answer = Err(CommitError::Failed(reason.clone()));
                }
            }
        }
        for (reply, answer) in answers {
            // The caller may be gone; the write stands.
            let _ = reply.send(answer);
        }
        // What was forgotten is freed only now, after the callers have their answers.
        drop(stored);
    }

    /// Makes a batch durable, then visible.
    fn store(&mut self, batch: &Batch<M>) -> Result<crate::state::Aftermath<M>, Error> {
        let now = self.options.clock.now();
        let (plan, compaction) = {
            let state = self.shared.state.read();
            let budget = FORGET + 4 * batch.events.len();
            let plan = state.log().plan(now, &self.options, budget);
            (plan, plan.map(|plan| state.compaction(plan)))
        };
        self.append(&batch.records(), compaction.as_ref())?;
        let mut state = self.shared.state.write();
        let aftermath = state.publish(&batch.events, plan, now, &self.options);
        drop(state);
        aftermath.ring();
        Ok(aftermath)
    }

    fn append(&mut self, records: &[Record], compaction: Option<&Compaction>) -> Result<(), Error> {
        let engine = &mut self.engine;
        catch_unwind(AssertUnwindSafe(|| engine.append(records, compaction)))
            .unwrap_or_else(|_| Err(Error::Other("the storage engine panicked".into())))
    }
}

/// The writer of a store that was opened with [`Store::open_with_driver`](crate::Store): a
/// future to run where the owner wants it.
pub struct Driver<M> {
    writer: Writer<M>,
    queue: mpsc::Receiver<Job<M>>,
    limit: usize,
    /// Dropped last: `close` waits for that.
    _finished: watch::Sender<()>,
}

impl<M: Send + Sync + 'static> Driver<M> {
    pub(crate) fn new(
        writer: Writer<M>,
        queue: mpsc::Receiver<Job<M>>,
        finished: watch::Sender<()>,
    ) -> Self {
        let limit = writer.options.batch.max(1);
        Self {
            writer,
            queue,
            limit,
            _finished: finished,
        }
    }

    /// Serves writes until the store is closed or dropped and its queue is empty. The engine is
    /// called on the thread that polls this.
    ///
    /// **Cancellation.** Dropping the future closes the store's write side; what is still queued
    /// is answered [`CommitError::Closed`].
    pub async fn run(mut self) {
        let mut jobs = Vec::new();
        while self.queue.recv_many(&mut jobs, self.limit).await > 0 {
            self.writer.process(jobs.drain(..));
        }
    }

    /// As [`run`](Self::run), on a thread of its own.
    pub(crate) fn run_blocking(mut self) {
        let mut jobs = Vec::new();
        while self.queue.blocking_recv_many(&mut jobs, self.limit) > 0 {
            self.writer.process(jobs.drain(..));
        }
    }
}
