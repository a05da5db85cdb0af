//! Candidates with differing clocks, stalls and a lossy, reordering network against one Lease.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::Value;

use super::decide::{Candidate, Moment, Record, Step, Times};
use crate::jitter::Jitter;

/// How much faster or slower than true time a clock may run, in thousandths.
const DRIFT: u64 = 80;

/// What happens, in true milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    /// A candidate asks for the Lease.
    Ask,
    /// The server answers with what it has; the answer may come late or not at all.
    ServerReads,
    /// The answer is there.
    Answer(Option<Value>),
    /// A write reaches the server: the new Lease, and the version it is conditional on.
    ServerWrites {
        lease: Value,
        on: String,
        sent: Duration,
    },
    /// The server's acknowledgement is there.
    Acknowledged { lease: Value, sent: Duration },
    /// A leader gives its term up, then releases.
    Release,
}

struct Replica {
    candidate: Candidate,
    last: Option<Value>,
    /// Thousandths of true time that its clock runs at.
    rate: u64,
    /// Since when and until when its fence holds, in true milliseconds.
    terms: Vec<(u64, u64)>,
    /// Counts its rounds, so that what belongs to an old one is ignored.
    round: u64,
}

struct World {
    replicas: Vec<Replica>,
    queue: BinaryHeap<Reverse<(u64, u64, usize, u64)>>,
    events: Vec<Event>,
    lease: Option<Value>,
    version: u64,
    random: Jitter,
}

fn times() -> Times {
    Times::default()
}

impl World {
    fn new(rates: &[u64], seed: u64) -> Self {
        let replica = |(n, rate): (usize, &u64)| Replica {
            candidate: Candidate::new(&format!("replica-{n}"), times()),
            last: None,
            rate: *rate,
            terms: Vec::new(),
            round: 0,
        };
        let mut world = Self {
            replicas: rates.iter().enumerate().map(replica).collect(),
            queue: BinaryHeap::new(),
            events: Vec::new(),
            lease: None,
            version: 0,
            random: Jitter::seeded(seed),
        };
        for n in 0..rates.len() {
            let first = world.up_to(3000);
            world.push(first, n, Event::Ask);
        }
        world
    }

    fn up_to(&self, limit: u64) -> u64 {
        self.random.next() % (limit + 1)
    }

    fn one_in(&self, n: u64) -> bool {
        self.random.next().is_multiple_of(n)
    }

    fn push(&mut self, at: u64, replica: usize, event: Event) {
        let round = self.replicas[replica].round;
        self.push_of(round, at, replica, event);
    }

    /// As [`Self::push`], of a round that may be over.
    fn push_of(&mut self, round: u64, at: u64, replica: usize, event: Event) {
        self.events.push(event);
        let number = u64::try_from(self.events.len() - 1).unwrap();
        self.queue.push(Reverse((at, number, replica, round)));
    }

    /// A delay of the network or of a replica: short, sometimes long, rarely longer than a lease.
    fn delay(&self) -> u64 {
        match self.random.next() % 20 {
            0 => self.up_to(40_000),
            1..=3 => self.up_to(4000),
            _ => self.up_to(50),
        }
    }

    fn local(&self, replica: usize, at: u64) -> Moment {
        Moment {
            monotonic: Duration::from_micros(at * self.replicas[replica].rate),
            // The wall clock is a bad witness here: it stands still.
            wall: Timestamp::UNIX_EPOCH,
        }
    }

    fn run(&mut self, until: u64) {
        while let Some(Reverse((at, number, replica, round))) = self.queue.pop() {
            if at > until {
                return;
            }
            let event = self.events[usize::try_from(number).unwrap()].clone();
            let of_server = matches!(event, Event::ServerReads | Event::ServerWrites { .. });
            // A replica that gave up waiting does not hear the answer; the server does what was sent.
            if of_server || round == self.replicas[replica].round {
                self.happen(at, replica, round, event);
            }
        }
    }

    fn happen(&mut self, at: u64, n: usize, round: u64, event: Event) {
        match event {
            Event::Ask => {
                self.replicas[n].round += 1;
                let retry =
                    at + 2000 + self.up_to(400) + if self.one_in(30) { self.delay() } else { 0 };
                let now = self.local(n, at);
                let replica = &self.replicas[n];
                let known = replica
                    .last
                    .clone()
                    .filter(|_| replica.candidate.leads(&now));
                match known {
                    Some(lease) => self.act(at, n, Some(lease)),
                    None if self.one_in(10) => {}
                    None => {
                        let arrives = at + self.delay();
                        self.push(arrives, n, Event::ServerReads);
                    }
                }
                // The next round begins whatever became of this one.
                self.push(retry, n, Event::Ask);
            }
            Event::ServerReads => {
                let back = at + self.delay();
                let lease = self.lease.clone();
                self.push_of(round, back, n, Event::Answer(lease));
            }
            Event::Answer(lease) => {
                let now = self.local(n, at);
                let record = lease.as_ref().map(Record::read);
                self.replicas[n].candidate.observe(record, now);
                self.act(at, n, lease);
            }
            Event::ServerWrites {
                mut lease,
                on,
                sent,
            } => {
                let stored = self.lease.as_ref().map(Record::read).unwrap_or_default();
                if stored.version != on {
                    return;
                }
                self.version += 1;
                lease["metadata"]["resourceVersion"] = self.version.to_string().into();
                self.lease = Some(lease.clone());
                let back = at + self.delay();
                if !self.one_in(10) {
                    self.push_of(round, back, n, Event::Acknowledged { lease, sent });
                }
            }
            Event::Acknowledged { lease, sent } => self.acknowledged(at, n, lease, sent),
            Event::Release => self.release(at, n),
        }
    }

    fn act(&mut self, at: u64, n: usize, old: Option<Value>) {
        // A stall between reading and deciding.
        let at = at + if self.one_in(20) { self.delay() } else { 0 };
        let now = self.local(n, at);
        let replica = &mut self.replicas[n];
        match replica.candidate.step(&now) {
            Step::Wait => {}
            Step::StepDown => {
                replica.candidate.step_down();
                cut(&mut replica.terms, at);
            }
            Step::Create | Step::Take | Step::Renew => {
                let lease = replica.candidate.desired("ns", "l", old.as_ref(), now.wall);
                let on = old.as_ref().map(Record::read).unwrap_or_default().version;
                let sent = now.monotonic;
                if !self.one_in(10) {
                    let arrives = at + self.delay();
                    self.push(arrives, n, Event::ServerWrites { lease, on, sent });
                }
            }
        }
    }

    fn acknowledged(&mut self, at: u64, n: usize, lease: Value, sent: Duration) {
        let sent = Moment {
            monotonic: sent,
            wall: Timestamp::UNIX_EPOCH,
        };
        let rate = self.replicas[n].rate;
        let replica = &mut self.replicas[n];
        replica.candidate.wrote(Record::read(&lease), sent);
        replica.last = Some(lease);
        let end = sent.monotonic + times().deadline;
        let end = u64::try_from(end.as_micros()).unwrap() / rate;
        if end > at {
            replica.terms.push((at, end));
        }
        if self.one_in(15) {
            let when = at + self.up_to(1500);
            self.push(when, n, Event::Release);
        }
    }

    fn release(&mut self, at: u64, n: usize) {
        let now = self.local(n, at);
        let replica = &mut self.replicas[n];
        if !replica.candidate.leads(&now) {
            return;
        }
        // The fence closes before the release is sent.
        cut(&mut replica.terms, at);
        replica.candidate.step_down();
        if let Some(last) = replica.last.take() {
            let on = Record::read(&last).version;
            let lease = Candidate::released(&last, now.wall);
            let arrives = at + self.delay();
            let sent = now.monotonic;
            self.push(arrives, n, Event::ServerWrites { lease, on, sent });
            // Whoever releases does not wait for the answer.
            self.replicas[n].round += 1;
            self.push(at + 2000, n, Event::Ask);
        }
    }
}

/// Ends the terms that go on at `at`.
fn cut(terms: &mut Vec<(u64, u64)>, at: u64) {
    for term in terms.iter_mut() {
        term.1 = term.1.min(at);
    }
    terms.retain(|(from, until)| from < until);
}

/// Two terms of different replicas that share an instant.
fn overlap(replicas: &[Replica]) -> Option<String> {
    for (n, one) in replicas.iter().enumerate() {
        for (m, other) in replicas.iter().enumerate().skip(n + 1) {
            for a in &one.terms {
                if let Some(b) = other.terms.iter().find(|b| a.0.max(b.0) < a.1.min(b.1)) {
                    return Some(format!("replica {n} in {a:?} and replica {m} in {b:?}"));
                }
            }
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn never_do_two_replicas_hold_a_fence_at_one_instant(
        rates in prop::collection::vec(1000 - DRIFT..=1000 + DRIFT, 2..5),
        seed: u64,
    ) {
        let mut world = World::new(&rates, seed);
        world.run(600_000);
        prop_assert_eq!(overlap(&world.replicas), None);
    }
}

#[test]
fn the_simulation_sees_many_terms_of_several_replicas() {
    let (mut leaders, mut terms) = (0, 0);
    for seed in 0..20 {
        let mut world = World::new(&[1000, 930, 1070], seed);
        world.run(600_000);
        leaders += world
            .replicas
            .iter()
            .filter(|r| !r.terms.is_empty())
            .count();
        terms += world.replicas.iter().map(|r| r.terms.len()).sum::<usize>();
    }
    assert!(
        leaders >= 40 && terms > 1000,
        "{leaders} leaders, {terms} terms"
    );
}

#[test]
fn with_clocks_that_differ_more_than_the_margin_it_does_find_two_leaders() {
    let found = (0..400).any(|seed| {
        let mut world = World::new(&[400, 1800], seed);
        world.run(600_000);
        overlap(&world.replicas).is_some()
    });
    assert!(found, "else the test above proves nothing");
}
