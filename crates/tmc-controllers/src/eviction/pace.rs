//! The bounded rate of moves: whoever has to wait is given the moment of its turn, so that nobody
//! asks twice.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Turns, at least a given time apart.
#[derive(Debug)]
pub struct Pace<K> {
    between: SignedDuration,
    /// The earliest turn that nobody has.
    next: Option<Timestamp>,
    turns: HashMap<K, Timestamp>,
    /// Turns given back before their time, for whoever comes next.
    vacant: BTreeSet<Timestamp>,
}

/// Whether it is somebody's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is.
    Now,
    /// It is at this moment, for whoever asks again then.
    At(Timestamp),
}

impl<K: Clone + Eq + Hash> Pace<K> {
    /// Turns this far apart.
    pub fn new(between: Duration) -> Self {
        Self {
            between: SignedDuration::try_from(between).unwrap_or(SignedDuration::MAX),
            next: None,
            turns: HashMap::new(),
            vacant: BTreeSet::new(),
        }
    }

    /// Asks for a turn. One that is granted is used up; one that lies ahead is kept for `key`.
    pub fn ask(&mut self, key: &K, now: Timestamp) -> Turn {
        let at = match self.turns.get(key) {
            Some(at) => *at,
            None => self.reserve(now),
        };
        if at <= now {
            self.turns.remove(key);
            return Turn::Now;
        }
        self.turns.insert(key.clone(), at);
        Turn::At(at)
    }

    /// Gives back what was kept for `key`: it has nothing to move any more.
    pub fn give_back(&mut self, key: &K) {
        if let Some(at) = self.turns.remove(key) {
            self.vacant.insert(at);
        }
    }

    fn reserve(&mut self, now: Timestamp) -> Timestamp {
        // A vacant turn in the past is no turn: using several of them at once would be a burst.
        self.vacant = self.vacant.split_off(&now);
        if let Some(at) = self.vacant.pop_first() {
            return at;
        }
        let at = self.next.map_or(now, |next| next.max(now));
        self.next = Some(at.saturating_add(self.between).unwrap_or(Timestamp::MAX));
        at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(2_000_000_000 + seconds).unwrap()
    }

    #[test]
    fn the_first_goes_at_once_and_the_others_are_told_when() {
        let mut pace = Pace::new(Duration::from_secs(2));
        assert_eq!(pace.ask(&"a", at(0)), Turn::Now);
        assert_eq!(pace.ask(&"b", at(0)), Turn::At(at(2)));
        assert_eq!(pace.ask(&"c", at(1)), Turn::At(at(4)));
        assert_eq!(
            pace.ask(&"b", at(1)),
            Turn::At(at(2)),
            "asked again, nothing changes"
        );
        assert_eq!(pace.ask(&"b", at(2)), Turn::Now);
        assert_eq!(pace.ask(&"c", at(4)), Turn::Now);
        assert_eq!(pace.ask(&"d", at(100)), Turn::Now, "nothing is saved up");
        assert_eq!(pace.ask(&"e", at(100)), Turn::At(at(102)));
    }

    #[test]
    fn a_turn_given_back_is_for_whoever_comes_next() {
        let mut pace = Pace::new(Duration::from_secs(2));
        for key in ["a", "b", "c", "d"] {
            pace.ask(&key, at(0));
        }
        pace.give_back(&"b");
        pace.give_back(&"nobody");
        assert_eq!(pace.ask(&"e", at(1)), Turn::At(at(2)));
        assert_eq!(pace.ask(&"f", at(1)), Turn::At(at(8)));
        pace.give_back(&"c");
        assert_eq!(
            pace.ask(&"g", at(5)),
            Turn::At(at(10)),
            "its time has passed"
        );
    }

    proptest! {
        /// Whatever is asked and given back in whatever order: two moves are never closer than the
        /// pace, but for turns that were given and are used late.
        #[test]
        fn moves_are_never_closer_than_the_pace(
            steps in prop::collection::vec((0_u8..6, 0_i64..4, any::<bool>()), 1..200)
        ) {
            let mut pace = Pace::new(Duration::from_secs(2));
            let mut now = 0;
            let mut turns = Vec::new();
            let mut promised: HashMap<u8, Timestamp> = HashMap::new();
            for (key, passed, back) in steps {
                now += passed;
                if back {
                    pace.give_back(&key);
                    promised.remove(&key);
                    continue;
                }
                match pace.ask(&key, at(now)) {
                    Turn::Now => turns.push(promised.remove(&key).unwrap_or(at(now))),
                    Turn::At(time) => {
                        prop_assert!(time > at(now));
                        let before = promised.insert(key, time);
                        prop_assert!(before.is_none_or(|before| before == time));
                    }
                }
            }
            turns.sort_unstable();
            for pair in turns.windows(2) {
                prop_assert!(pair[1].duration_since(pair[0]) >= SignedDuration::from_secs(2));
            }
        }
    }
}
