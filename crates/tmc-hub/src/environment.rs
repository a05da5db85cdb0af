//! Time and randomness as parameters, so that a simulation can replay a run.

use std::sync::Arc;

use jiff::Timestamp;

/// Where the hub gets what is not a function of its inputs.
pub trait Environment: Send + Sync {
    /// Wall-clock time.
    fn now(&self) -> Timestamp;

    /// A fresh object uid (RFC 4122 text).
    fn uid(&self) -> String;
}

/// The machine's clock and random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEnvironment;

impl Environment for SystemEnvironment {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn uid(&self) -> String {
        uuid::Uuid::new_v4().to_string()
    }
}

/// A shared environment.
pub type SharedEnvironment = Arc<dyn Environment>;

/// A time as Kubernetes writes it in metadata: RFC 3339, UTC, whole seconds.
pub fn timestamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The last characters of generated names, from Kubernetes' alphabet without vowels and lookalikes
/// (`k8s.io/apimachinery/pkg/util/rand`).
pub fn name_suffix(uid: &str, length: usize) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(uid.as_bytes());
    digest
        .iter()
        .take(length)
        .map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()]))
        .collect()
}
