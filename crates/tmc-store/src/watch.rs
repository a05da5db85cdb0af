//! Watchers: cursors on the log.

use std::sync::Arc;

use crate::state::Target;
use crate::store::Shared;
use crate::{Compacted, Event, Revision};

/// Events handed out at once; also the most that are cloned in one hold of the lock.
const BATCH: usize = 32;

/// A position in the sequence of changes, and the prefix it is interested in.
///
/// **Ordering.** Events come in order of revision, each once, none is left out. **Cost.** A
/// watcher holds no events: a slow one costs its cursor, and learns that it was too slow.
/// It keeps the store's memory alive, but not its writer.
pub struct Watcher<M> {
    shared: Arc<Shared<M>>,
    prefix: Box<str>,
    target: Target,
    bell: Arc<tokio::sync::Notify>,
    cursor: Revision,
}

impl<M> Watcher<M> {
    pub(crate) fn new(
        shared: &Arc<Shared<M>>,
        prefix: &str,
        after: Option<Revision>,
    ) -> Result<Self, Compacted> {
        let target = Target::of(prefix);
        let mut state = shared.state.write();
        let cursor = after.unwrap_or(state.revision());
        state.check(cursor)?;
        let bell = state.enter(&target);
        drop(state);
        Ok(Self {
            shared: shared.clone(),
            prefix: prefix.into(),
            target,
            bell,
            cursor,
        })
    }

    /// The next events, at least one and at most 32, waiting for them if there are none.
    ///
    /// **Cancellation.** Dropping the future loses nothing: the next call returns what this one
    /// would have.
    ///
    /// # Errors
    /// [`Compacted`] if events that this watcher has not returned are forgotten: it cannot go on,
    /// its owner has to list again. Never because of changes in other resources, or in other
    /// logical clusters than the prefix names.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event<M>>>, Compacted> {
        let bell = self.bell.clone();
        loop {
            // A reader that always finds events would otherwise never let others run.
            tokio::task::consume_budget().await;
            // Made before looking, it hears of whatever is published after the look.
            let rung = bell.notified();
            let found = {
                let state = self.shared.state.read();
                state.events(&self.target, &self.prefix, self.cursor, BATCH)?
            };
            self.cursor = found.cursor;
            if !found.events.is_empty() {
                return Ok(found.events);
            }
            if found.caught_up {
                rung.await;
            }
        }
    }

    /// The value of a bookmark: every matching event up to this revision has been returned, so a
    /// watch resumed after it misses nothing. It moves on with the store while the watched keys
    /// are quiet.
    pub fn progress(&self) -> Revision {
        self.shared.state.read().progress(&self.target, self.cursor)
    }
}

impl<M> Drop for Watcher<M> {
    fn drop(&mut self) {
        self.shared.state.write().leave(&self.target);
    }
}
