//! Randomness: every decision of a run comes from its seed.

use std::time::Duration;

use tmc_runtime::Jitter;

/// A source of decisions. Clones share the sequence.
#[derive(Clone, Debug)]
pub(crate) struct Chance {
    seed: u64,
    numbers: Jitter,
}

impl Chance {
    /// The same seed decides the same.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            numbers: Jitter::seeded(seed),
        }
    }

    /// A source of its own for a part: what it decides does not depend on how often others ask.
    pub(crate) fn fork(&self, part: &str) -> Self {
        // FNV-1a.
        let hash = part.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self::new(Jitter::seeded(self.seed ^ hash).next())
    }

    /// A number below `end`; 0 if that is 0.
    pub(crate) fn below(&self, end: u64) -> u64 {
        if end == 0 {
            0
        } else {
            self.numbers.next() % end
        }
    }

    /// True that many times in a thousand.
    pub(crate) fn happens(&self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1000) < u64::from(per_mille)
    }

    /// One of them; `None` of none.
    pub(crate) fn pick<'a, T>(&self, of: &'a [T]) -> Option<&'a T> {
        let at = self.below(u64::try_from(of.len()).unwrap_or(u64::MAX));
        of.get(usize::try_from(at).ok()?)
    }

    /// A duration in whole milliseconds from `from` up to `to`.
    pub(crate) fn between(&self, from: Duration, to: Duration) -> Duration {
        let room = u64::try_from(to.saturating_sub(from).as_millis()).unwrap_or(u64::MAX);
        from + Duration::from_millis(self.below(room.saturating_add(1)))
    }

    /// Randomness for the code under test.
    pub(crate) fn jitter(&self) -> Jitter {
        self.numbers.clone()
    }

    /// Text of the form of an RFC 4122 uid.
    pub(crate) fn uid(&self) -> String {
        let (a, b) = (self.numbers.next(), self.numbers.next());
        let hex = format!("{a:016x}{b:016x}");
        format!(
            "{}-{}-4{}-8{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[13..16],
            &hex[17..20],
            &hex[20..32]
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_decides_the_same_whatever_others_ask() {
        let (a, b) = (Chance::new(5), Chance::new(5));
        a.below(10);
        a.below(10);
        let (a, b) = (a.fork("wire"), b.fork("wire"));
        let draws = |chance: &Chance| (0..20).map(|_| chance.below(1000)).collect::<Vec<_>>();
        assert_eq!(draws(&a), draws(&b));
        assert_ne!(draws(&a), draws(&Chance::new(5).fork("other")));
    }

    #[test]
    fn a_uid_has_the_form_of_one() {
        let chance = Chance::new(1);
        let uid = chance.uid();
        assert!(uuid::Uuid::parse_str(&uid).is_ok(), "{uid}");
        assert_ne!(uid, chance.uid());
    }

    #[test]
    fn a_duration_is_within_its_bounds() {
        let chance = Chance::new(3);
        let (from, to) = (Duration::from_millis(5), Duration::from_millis(9));
        for _ in 0..100 {
            let drawn = chance.between(from, to);
            assert!(drawn >= from && drawn <= to);
        }
        assert_eq!(chance.between(to, from), to);
    }
}
