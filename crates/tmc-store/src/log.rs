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
        Self {
            segments: VecDeque::new(),
            bytes: 0,
            events: 0,
        }
    }
}

/// Memory that is held only because this event is remembered: the version it superseded, and for
/// a delete the tombstone.
fn cost<M>(event: &Event<M>) -> usize {
    let superseded = event
        .previous
        .as_ref()
        .map_or(0, |previous| previous.value.len());
    let tombstone = if event.deleted {
        event.entry.value.len()
    } else {
        0
    };
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
            let empty = Segment {
                events: Vec::new(),
                bytes: 0,
                opened: now,
                newest: now,
            };
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
            plan = Some(Plan {
                segments: index + 1,
                floor: last.revision,
            });
        }
        plan
    }

    /// The events a plan forgets.
    pub(crate) fn planned(&self, plan: Plan) -> impl Iterator<Item = &Arc<Event<M>>> {
        self.segments
            .iter()
            .take(plan.segments)
            .flat_map(|segment| &segment.events)
    }

    /// Forgets what was planned and hands it out, so that it is freed outside of locks.
    pub(crate) fn forget(&mut self, plan: Plan) -> Vec<Segment<M>> {
        let gone: Vec<_> = self.segments.drain(..plan.segments).collect();
        self.bytes -= gone.iter().map(|segment| segment.bytes).sum::<usize>();
        self.events -= gone
            .iter()
            .map(|segment| segment.events.len())
            .sum::<usize>();
        gone
    }

    /// Events after a revision, in order.
    pub(crate) fn after(&self, revision: Revision) -> impl Iterator<Item = &Arc<Event<M>>> {
        let is_before = |segment: &Segment<M>| {
            segment
                .events
                .last()
                .is_none_or(|last| last.revision <= revision)
        };
        let first = self.segments.partition_point(is_before);
        self.segments
            .range(first..)
            .flat_map(|segment| &segment.events)
            .skip_while(move |event| event.revision <= revision)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Entry;

    fn event(revision: Revision, superseded: usize) -> Arc<Event<()>> {
        let entry = |size| {
            let value = Bytes::from(vec![0; size]);
            Arc::new(Entry {
                key: "k".into(),
                value,
                meta: (),
                created: 1,
                revision,
            })
        };
        let previous = (superseded > 0).then(|| entry(superseded));
        Arc::new(Event {
            revision,
            entry: entry(0),
            previous,
            deleted: false,
        })
    }

    fn options() -> Options {
        Options {
            log_bytes: 1 << 20,
            ..Options::default()
        }
    }

    /// One event a second from second 1 on, each superseding `size` bytes.
    fn filled(count: u64, size: usize) -> Log<()> {
        let mut log = Log::default();
        for n in 1..=count {
            log.push(event(n, size), Duration::from_secs(n), &options());
        }
        log
    }

    fn floor_at(log: &Log<()>, second: u64, budget: usize) -> Option<Revision> {
        log.plan(Duration::from_secs(second), &options(), budget)
            .map(|plan| plan.floor)
    }

    #[test]
    fn age_alone_drops_what_is_too_old_and_never_a_part_of_a_segment() {
        let log = filled(100, 0);
        assert_eq!(floor_at(&log, 300, usize::MAX), None);
        let span = options().fresh_age.as_secs() / 8 + 1;
        assert_eq!(
            floor_at(&log, 300 + span, usize::MAX),
            None,
            "its last event is just in age"
        );
        assert_eq!(floor_at(&log, 301 + span, usize::MAX), Some(span));
        assert_eq!(floor_at(&log, 1000, usize::MAX), Some(100));
    }

    #[test]
    fn bytes_drop_only_what_is_not_fresh_unless_there_are_far_too_many() {
        let twice = filled(64, 32 << 10);
        assert_eq!(
            floor_at(&twice, 64, usize::MAX),
            None,
            "too much, but fresh"
        );
        let floor = floor_at(&twice, 200, usize::MAX).unwrap();
        assert!(
            (30..=40).contains(&floor),
            "down to the bound and no further: {floor}"
        );
        let far_more = filled(64, 128 << 10);
        let floor = floor_at(&far_more, 64, usize::MAX).unwrap();
        assert!(
            (32..=41).contains(&floor),
            "down to four times the bound: {floor}"
        );
    }

    #[test]
    fn a_budget_spreads_the_work() {
        let mut log = filled(1000, 0);
        let mut rounds = 0;
        while let Some(plan) = log.plan(Duration::from_secs(5000), &options(), 64) {
            assert!(log.planned(plan).count() <= 2 * SEGMENT_EVENTS);
            let gone = log.forget(plan);
            assert_eq!(
                gone.last().unwrap().events.last().unwrap().revision,
                plan.floor
            );
            rounds += 1;
        }
        assert!(rounds >= 8);
        assert_eq!((log.len(), log.bytes()), (0, 0));
    }

    #[test]
    fn events_after_a_revision_are_found_in_any_segment() {
        let mut log = filled(200, 0);
        for revision in [0, 1, 9, 10, 11, 63, 64, 65, 199, 200, 999] {
            let found: Vec<_> = log.after(revision).map(|event| event.revision).collect();
            assert!(found.into_iter().eq(revision + 1..=200), "after {revision}");
        }
        let plan = log.plan(Duration::from_secs(5000), &options(), 1).unwrap();
        log.forget(plan);
        assert_eq!(log.after(0).next().unwrap().revision, plan.floor + 1);
    }
}
