//! The last changes of all resources in order, and the decision which of them to forget.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::{Event, Options, Revision};

/// Where a segment ends: small enough that dropping one is cheap.
const SEGMENT_EVENTS: usize = 64;
const SEGMENT_BYTES: usize = 256 << 10;
/// Rough size of what an event takes beside its values.
const EVENT_OVERHEAD: usize = 256;
/// How far `log_bytes` may be exceeded for the sake of the fresh window.
const HARD_FACTOR: usize = 4;

/// A run of events that is forgotten as a whole.
pub(crate) struct Segment<M> {
    pub(crate) events: Vec<Arc<Event<M>>>,
    bytes: usize,
    opened: Duration,
    newest: Duration,
}

/// How much to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    segments: usize,
    pub(crate) floor: Revision,
}

pub(crate) struct Log<M> {
    segments: VecDeque<Segment<M>>,
    bytes: usize,
    events: usize,
}

impl<M> Default for Log<M> {
    fn default() -> Self {
        Self { segments: VecDeque::new(), bytes: 0, events: 0 }
    }
}

/// Memory that is held only because this event is remembered: the version it superseded, and for
/// a delete the tombstone.
fn cost<M>(event: &Event<M>) -> usize {
    let superseded = event.previous.as_ref().map_or(0, |previous| previous.value.len());
    let tombstone = if event.deleted { event.entry.value.len() } else { 0 };
    EVENT_OVERHEAD + superseded + tombstone
}

impl<M> Log<M> {
    /// Bytes held for the sake of history.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Events remembered.
    pub(crate) fn len(&self) -> usize {
        self.events
    }

    pub(crate) fn push(&mut self, event: Arc<Event<M>>, now: Duration, options: &Options) {
        let span = options.fresh_age / 8;
        let full = self.segments.back().is_none_or(|last| {
            last.events.len() >= SEGMENT_EVENTS
                || last.bytes >= SEGMENT_BYTES
                || now.saturating_sub(last.opened) > span
        });
        if full {
            let empty = Segment { events: Vec::new(), bytes: 0, opened: now, newest: now };
            self.segments.push_back(empty);
        }
        let bytes = cost(&event);
        if let Some(last) = self.segments.back_mut() {
            last.events.push(event);
            last.bytes += bytes;
            last.newest = now;
        }
        self.bytes += bytes;
        self.events += 1;
    }

    /// What is due to be forgotten, at most about `budget` events so that no write pays for all.
    pub(crate) fn plan(&self, now: Duration, options: &Options, budget: usize) -> Option<Plan> {
        let mut plan = None;
        let mut bytes = self.bytes;
        let mut events = 0;
        for (index, segment) in self.segments.iter().enumerate() {
            let age = now.saturating_sub(segment.newest);
            let due = age > options.log_age
                || (bytes > options.log_bytes && age > options.fresh_age)
                || bytes > options.log_bytes.saturating_mul(HARD_FACTOR);
            if !due || events >= budget {
                break;
            }
            bytes -= segment.bytes;
            events += segment.events.len();
            let last = segment.events.last()?;
            plan = Some(Plan { segments: index + 1, floor: last.revision });
        }
        plan
    }

    /// The events a plan forgets.
    pub(crate) fn planned(&self, plan: Plan) -> impl Iterator<Item = &Arc<Event<M>>> {
        self.segments.iter().take(plan.segments).flat_map(|segment| &segment.events)
    }

    /// Forgets what was planned and hands it out, so that it is freed outside of locks.
    pub(crate) fn forget(&mut self, plan: Plan) -> Vec<Segment<M>> {
        let gone: Vec<_> = self.segments.drain(..plan.segments).collect();
        self.bytes -= gone.iter().map(|segment| segment.bytes).sum::<usize>();
        self.events -= gone.iter().map(|segment| segment.events.len()).sum::<usize>();
        gone
    }

    /// Events after a revision, in order.
    pub(crate) fn after(&self, revision: Revision) -> impl Iterator<Item = &Arc<Event<M>>> {
        let is_before = |segment: &Segment<M>| {
            segment.events.last().is_none_or(|last| last.revision <= revision)
        };
        let first = self.segments.partition_point(is_before);
        self.segments
            .range(first..)
            .flat_map(|segment| &segment.events)
            .skip_while(move |event| event.revision <= revision)
    }
}
