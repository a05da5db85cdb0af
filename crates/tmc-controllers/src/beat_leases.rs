//! Beats that one replica hears, for the replica that leads: a compact list in the annotation of a
//! Lease, up to [`MAX_TARGETS`] targets each.
//!
//! The list tells for each target how long before its writing the last beat was. A reader that sees
//! the list change therefore learns the time of a beat by its own clock, whatever the writer's
//! clock says. Only a list that may be old (the first sight of a Lease) is dated by the writer.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tmc_api::workload::heartbeat::{DEFAULT_SKEW, is_credible};

/// Annotation of a Lease: the list.
pub const BEATS_ANNOTATION: &str = "internal.tmc.kcp.io/beats";
/// Label of a Lease with a list: the replica that writes it.
pub const REPLICA_LABEL: &str = "internal.tmc.kcp.io/beats-of";
/// Most targets in one list.
pub const MAX_TARGETS: usize = 1000;
/// Longest list that is written or read, in bytes: what Kubernetes allows for all annotations of an
/// object is 256 KiB.
pub const MAX_BYTES: usize = 200 * 1024;
/// How long a target that is not heard any more stays in the list: longer than anybody waits for
/// it.
pub const KEPT: Duration = Duration::from_secs(900);

const VERSION: &str = "1";
/// Milliseconds by which rounding may move a beat from list to list.
const SAME_BEAT: u64 = 5;
/// Longest key or uid.
const MAX_WORD: usize = 64;

/// A target in a list: its SyncTargetKey and its uid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Heard {
    /// SyncTargetKey.
    pub key: String,
    /// Uid of the SyncTarget.
    pub uid: String,
}

/// A list: when it was written, by its writer's clock, and how old each beat was then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BeatList {
    /// Milliseconds since the epoch.
    pub written: i64,
    /// Age of the last beat of each target, in milliseconds.
    pub ages: BTreeMap<Heard, u64>,
}

/// Why a list cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadList {
    /// Longer than [`MAX_BYTES`].
    #[error("the list of beats is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// More than [`MAX_TARGETS`].
    #[error("the list of beats has more than {MAX_TARGETS} targets")]
    TooMany,
    /// Another version of this program wrote it, or nobody's.
    #[error("the list of beats is of an unknown form")]
    Unknown,
}

fn is_word(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=MAX_WORD).contains(&text.len()) && text.bytes().all(fits)
}

impl BeatList {
    /// The list as text: version, time, then `key:uid:age` for each target.
    ///
    /// # Errors
    /// [`BadList`] if it breaks a bound, or a key or uid is not a word of letters, digits and `-`.
    pub fn encode(&self) -> Result<String, BadList> {
        if self.ages.len() > MAX_TARGETS {
            return Err(BadList::TooMany);
        }
        let mut text = format!("{VERSION};{}", self.written);
        for (heard, age) in &self.ages {
            if !is_word(&heard.key) || !is_word(&heard.uid) {
                return Err(BadList::Unknown);
            }
            text.push_str(&format!(";{}:{}:{age}", heard.key, heard.uid));
        }
        if text.len() > MAX_BYTES {
            return Err(BadList::TooLong);
        }
        Ok(text)
    }

    /// Reads what [`BeatList::encode`] wrote.
    ///
    /// # Errors
    /// [`BadList`]: nothing of a list that breaks a bound is believed.
    pub fn decode(text: &str) -> Result<Self, BadList> {
        if text.len() > MAX_BYTES {
            return Err(BadList::TooLong);
        }
        let mut parts = text.split(';');
        if parts.next() != Some(VERSION) {
            return Err(BadList::Unknown);
        }
        let written = parts.next().and_then(|text| text.parse().ok());
        let mut list = Self {
            written: written.ok_or(BadList::Unknown)?,
            ages: BTreeMap::new(),
        };
        for part in parts {
            let (heard, age) = entry(part).ok_or(BadList::Unknown)?;
            list.ages.insert(heard, age);
            if list.ages.len() > MAX_TARGETS {
                return Err(BadList::TooMany);
            }
        }
        Ok(list)
    }
}

fn entry(text: &str) -> Option<(Heard, u64)> {
    let mut words = text.split(':');
    let (key, uid, age) = (words.next()?, words.next()?, words.next()?);
    let heard = Heard {
        key: key.to_owned(),
        uid: uid.to_owned(),
    };
    let sound = is_word(key) && is_word(uid) && words.next().is_none();
    Some((heard, age.parse().ok().filter(|_| sound)?))
}

/// The lists of one writer: which target is in which, what has changed.
#[derive(Debug, Default)]
pub struct Lists {
    /// The list of each target, and its last beat.
    heard: HashMap<Heard, (usize, Timestamp)>,
    /// How many targets each list has, and whether it is to be written.
    lists: Vec<(usize, bool)>,
}

impl Lists {
    /// Notes a beat that has just come in.
    pub fn note(&mut self, heard: Heard, at: Timestamp) {
        if let Some((list, last)) = self.heard.get_mut(&heard) {
            // Also if the clock was set back: it is the newest all the same.
            *last = at;
            self.lists[*list].1 = true;
            return;
        }
        let room = self
            .lists
            .iter()
            .position(|(targets, _)| *targets < MAX_TARGETS);
        let list = room.unwrap_or_else(|| {
            self.lists.push((0, false));
            self.lists.len() - 1
        });
        self.lists[list].0 += 1;
        self.lists[list].1 = true;
        self.heard.insert(heard, (list, at));
    }

    /// Takes out what is to be written: number and content of each list that has changed since.
    pub fn take(&mut self, now: Timestamp) -> Vec<(usize, BeatList)> {
        let kept = SignedDuration::try_from(KEPT).unwrap_or(SignedDuration::MAX);
        let lists = &mut self.lists;
        self.heard.retain(|_, (list, at)| {
            // One from the future was noted before the clock was set back: with an age of zero in
            // each list it would look like a beat each time. Its next beat brings it back.
            let stays = now.duration_since(*at) <= kept && is_credible(now, *at, DEFAULT_SKEW);
            if !stays {
                lists[*list].0 -= 1;
            }
            stays
        });
        let due: Vec<usize> = (0..self.lists.len()).filter(|n| self.lists[*n].1).collect();
        let mut taken: BTreeMap<usize, BeatList> = BTreeMap::new();
        for number in due {
            self.lists[number].1 = false;
            let written = now.as_millisecond();
            taken.insert(
                number,
                BeatList {
                    written,
                    ..BeatList::default()
                },
            );
        }
        for (heard, (number, at)) in &self.heard {
            if let Some(list) = taken.get_mut(number) {
                let age = u64::try_from(now.duration_since(*at).as_millis()).unwrap_or(0);
                list.ages.insert(heard.clone(), age);
            }
        }
        taken.into_iter().collect()
    }

    /// A list could not be written: it is due again.
    pub fn put_back(&mut self, number: usize) {
        if let Some(list) = self.lists.get_mut(number) {
            list.1 = true;
        }
    }

    /// Makes every list due.
    pub fn all_due(&mut self) {
        for list in &mut self.lists {
            list.1 = true;
        }
    }
}

/// What a reader has learnt of one Lease.
#[derive(Debug, Default)]
pub struct Reading {
    /// Time of each beat by the writer's clock.
    seen: HashMap<Heard, i64>,
    /// Whether a list was read before.
    live: bool,
}

impl Reading {
    /// Reads a list that has just been seen; the beats in it that are news, by the reader's clock.
    pub fn news(&mut self, list: &BeatList, now: Timestamp) -> Vec<(Heard, Timestamp)> {
        // At first sight the Lease may be hours old: its writer's clock is all there is.
        let stale = if self.live {
            0
        } else {
            now.as_millisecond().saturating_sub(list.written).max(0)
        };
        self.live = true;
        let mut seen = HashMap::with_capacity(list.ages.len());
        let mut news = Vec::new();
        for (heard, age) in &list.ages {
            let age = i64::try_from(*age).unwrap_or(i64::MAX);
            let at = list.written.saturating_sub(age);
            // Another time is another beat, also an earlier one: the writer's clock was set back.
            let other = |last: &i64| last.abs_diff(at) > SAME_BEAT;
            if self.seen.get(heard).is_none_or(other) {
                let age = SignedDuration::from_millis(age.saturating_add(stale));
                let at = now.saturating_sub(age).unwrap_or(Timestamp::MIN);
                news.push((heard.clone(), at));
            }
            seen.insert(heard.clone(), at);
        }
        self.seen = seen;
        news
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(2_000_000_000_000 + millis).unwrap()
    }

    fn heard(n: usize) -> Heard {
        Heard {
            key: format!("{n:044}"),
            uid: format!("3f1c2b7a-0000-4000-8000-{n:012}"),
        }
    }

    proptest! {
        #[test]
        fn a_list_reads_back_as_it_was_written(
            written: i64,
            ages in prop::collection::btree_map(("[a-z0-9]{1,64}", "[a-zA-Z0-9-]{1,64}"), any::<u64>(), 0..50),
        ) {
            let ages = ages.into_iter().map(|((key, uid), age)| (Heard { key, uid }, age)).collect();
            let list = BeatList { written, ages };
            prop_assert_eq!(BeatList::decode(&list.encode().unwrap()), Ok(list));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,200}") {
            let _ = BeatList::decode(&text);
        }
    }

    #[test]
    fn a_full_list_fits_and_one_more_target_does_not() {
        let mut list = BeatList {
            written: i64::MAX,
            ages: (0..MAX_TARGETS).map(|n| (heard(n), 900_000)).collect(),
        };
        assert!(list.encode().unwrap().len() < MAX_BYTES);
        list.ages.insert(heard(MAX_TARGETS), 0);
        assert_eq!(list.encode(), Err(BadList::TooMany));
    }

    #[rstest]
    #[case("", BadList::Unknown)]
    #[case("2;5", BadList::Unknown)]
    #[case("1;soon", BadList::Unknown)]
    #[case("1;5;k:u", BadList::Unknown)]
    #[case("1;5;k:u:3:4", BadList::Unknown)]
    #[case("1;5;k:u:-3", BadList::Unknown)]
    #[case("1;5;k k:u:3", BadList::Unknown)]
    #[case("1;5;:u:3", BadList::Unknown)]
    fn what_is_no_list_is_not_believed(#[case] text: &str, #[case] why: BadList) {
        assert_eq!(BeatList::decode(text), Err(why));
    }

    #[test]
    fn a_list_beyond_its_bounds_is_not_believed() {
        let long = format!("1;5;{}", "x".repeat(MAX_BYTES));
        assert_eq!(BeatList::decode(&long), Err(BadList::TooLong));
        let many: String = (0..=MAX_TARGETS).map(|n| format!(";{n}:u:1")).collect();
        assert_eq!(
            BeatList::decode(&format!("1;5{many}")),
            Err(BadList::TooMany)
        );
    }

    #[test]
    fn who_was_heard_last_before_the_clock_was_set_back_is_in_no_list() {
        let mut lists = Lists::default();
        for n in [0, 1] {
            lists.note(heard(n), at(3_600_000));
        }
        lists.note(heard(1), at(0));
        let taken = lists.take(at(100));
        assert_eq!(taken[0].1.ages, [(heard(1), 100)].into());
        lists.note(heard(0), at(200));
        assert_eq!(lists.take(at(300))[0].1.ages.len(), 2);
    }

    #[test]
    fn only_what_changed_is_written_again() {
        let mut lists = Lists::default();
        for n in 0..=MAX_TARGETS {
            lists.note(heard(n), at(0));
        }
        let first = lists.take(at(100));
        let sizes: Vec<_> = first
            .iter()
            .map(|(n, list)| (*n, list.ages.len()))
            .collect();
        assert_eq!(sizes, [(0, MAX_TARGETS), (1, 1)]);
        assert!(lists.take(at(200)).is_empty());
        lists.note(heard(MAX_TARGETS), at(50));
        let second = lists.take(at(300));
        assert_eq!(second.len(), 1);
        assert_eq!(second[0].1.ages[&heard(MAX_TARGETS)], 250);
        lists.put_back(1);
        assert_eq!(lists.take(at(300)), second);
    }

    #[test]
    fn a_target_that_is_silent_for_long_makes_room() {
        let mut lists = Lists::default();
        lists.note(heard(1), at(0));
        lists.note(heard(2), at(800_000));
        assert_eq!(lists.take(at(900_000))[0].1.ages.len(), 2);
        lists.note(heard(2), at(900_001));
        let list = &lists.take(at(900_001))[0].1;
        assert_eq!(list.ages.keys().collect::<Vec<_>>(), [&heard(2)]);
    }

    #[test]
    fn a_reader_dates_beats_by_its_own_clock() {
        let mut reading = Reading::default();
        let list = |written, age| BeatList {
            written: at(written).as_millisecond(),
            ages: [(heard(1), age)].into(),
        };
        // At first sight the writer's clock counts: the Lease may have been left behind.
        assert_eq!(
            reading.news(&list(0, 500), at(60_000)),
            [(heard(1), at(-500))]
        );
        // The same beat in a later list is no news.
        assert_eq!(reading.news(&list(2000, 2500), at(62_000)), []);
        // The writer's clock is an hour ahead: nobody minds.
        let ahead = 3_600_000;
        assert_eq!(
            reading.news(&list(ahead, 700), at(64_000)),
            [(heard(1), at(63_300))]
        );
    }
}
