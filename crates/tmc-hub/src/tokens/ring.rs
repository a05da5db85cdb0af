//! Which key signs, and how long the others are kept. A value: no clock, no file.

use serde::{Deserialize, Serialize};

const DAY: i64 = 24 * 3600;
/// How long a key signs, in seconds.
pub(crate) const PERIOD: i64 = 30 * DAY;

/// What a key is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Algorithm {
    /// ECDSA on P-256, as Kubernetes' own tokens may be.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519: its signatures are a function of key and text, so a simulation can replay them.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// One key. Not printable: it holds the private part.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Key {
    /// Names it in the header of a token.
    pub id: String,
    pub algorithm: Algorithm,
    /// When it began to sign, in seconds since 1970.
    pub created: i64,
    /// No token that it signed is good at this time or later.
    pub verifies_until: i64,
    /// PKCS #8, base64.
    pub private: String,
}

/// The keys, oldest first; the last one is the newest.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ring {
    pub keys: Vec<Key>,
}

impl Ring {
    /// Whether the next token needs a new key. A key that began to sign in the future was made by a
    /// clock that was ahead: its period would not end.
    pub(crate) fn is_due(&self, now: i64) -> bool {
        self.keys.last().is_none_or(|key| {
            let age = now.saturating_sub(key.created);
            !(-DAY..PERIOD).contains(&age)
        })
    }

    /// Makes a key the signer, and forgets those whose tokens had all ended when the signer before it
    /// began. Not those that end now: should the clock be ahead, they are needed when it is set right.
    pub(crate) fn rotate(&mut self, now: i64, key: Key) {
        let began = self.keys.last().map_or(now, |signer| signer.created);
        let ended = now.min(began);
        self.keys.retain(|old| ended < old.verifies_until);
        self.keys.push(key);
    }

    /// Notes that the newest key signs a token that ends at `expires`; says whether the ring changed
    /// and must be saved before the token is handed out. Rounded up to days, so that a key that signs
    /// much is saved once a day.
    pub(crate) fn reserve(&mut self, expires: i64) -> bool {
        let Some(key) = self.keys.last_mut() else {
            return false;
        };
        if expires <= key.verifies_until {
            return false;
        }
        key.verifies_until = (expires.div_euclid(DAY) + 2) * DAY;
        true
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn key(id: &str, created: i64) -> Key {
        Key {
            id: id.into(),
            algorithm: Algorithm::Es256,
            created,
            verifies_until: created,
            private: String::new(),
        }
    }

    fn ids(ring: &Ring) -> Vec<&str> {
        ring.keys.iter().map(|key| key.id.as_str()).collect()
    }

    #[rstest]
    #[case::young(PERIOD - 1, false)]
    #[case::old(PERIOD, true)]
    #[case::from_a_clock_that_was_a_little_ahead(-DAY, false)]
    #[case::from_a_clock_that_was_far_ahead(-DAY - 1, true)]
    fn a_key_signs_for_its_period(#[case] now: i64, #[case] due: bool) {
        assert!(Ring::default().is_due(now), "an empty ring needs a key");
        let ring = Ring {
            keys: vec![key("a", 0)],
        };
        assert_eq!(ring.is_due(now), due);
    }

    #[test]
    fn an_old_key_is_kept_until_its_longest_token_has_ended() {
        let mut ring = Ring::default();
        ring.rotate(0, key("a", 0));
        assert!(ring.reserve(PERIOD + 3600));
        assert!(ring.reserve(PERIOD + 10 * DAY), "a longer one");
        assert!(
            !ring.reserve(PERIOD + 3600),
            "a shorter one changes nothing"
        );
        ring.rotate(PERIOD, key("b", PERIOD));
        assert_eq!(ids(&ring), ["a", "b"]);
        let ended = ring.keys[0].verifies_until;
        assert!(ended >= PERIOD + 10 * DAY);
        assert!(ring.reserve(ended + 2 * PERIOD));
        let mut early = ring.clone();
        early.rotate(ended - 1, key("c", ended - 1));
        early.rotate(ended + PERIOD, key("d", ended + PERIOD));
        assert_eq!(ids(&early), ["a", "b", "d"], "c signed nothing");
        ring.rotate(ended, key("c", ended));
        assert_eq!(ids(&ring), ["a", "b", "c"], "the clock may be ahead");
        ring.rotate(ended + PERIOD, key("d", ended + PERIOD));
        assert_eq!(ids(&ring), ["b", "d"]);
    }

    #[test]
    fn a_clock_that_was_ahead_takes_no_key_along() {
        const FAR: i64 = 12 * 365 * DAY;
        let mut ring = Ring::default();
        ring.rotate(-PERIOD, key("a", -PERIOD));
        assert!(ring.reserve(DAY));
        ring.rotate(0, key("b", 0));
        assert!(ring.reserve(3600));
        ring.rotate(FAR, key("c", FAR));
        assert!(ring.reserve(FAR + 3600));
        assert_eq!(ids(&ring), ["a", "b", "c"]);
        assert!(ring.is_due(0), "c would sign for twelve years");
        ring.rotate(0, key("d", 0));
        assert!(!ring.is_due(0));
        for old in ["a", "b"] {
            assert!(ids(&ring).contains(&old), "its tokens are good at 0");
        }
    }

    #[test]
    fn many_tokens_of_a_day_change_the_ring_once() {
        let mut ring = Ring::default();
        ring.rotate(0, key("a", 0));
        let changes = (0..DAY / 60).filter(|minute| ring.reserve(minute * 60 + 3600));
        assert_eq!(changes.count(), 1);
    }
}
