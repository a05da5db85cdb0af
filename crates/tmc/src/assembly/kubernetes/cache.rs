//! Answers that hold for a short time, by a hash of what was asked.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

/// The hash of what was asked. Tokens are kept as nothing else.
pub type Question = [u8; 32];

/// Hashes what was asked.
pub fn question(bytes: &[u8]) -> Question {
    Sha256::digest(bytes).into()
}

/// At most so many answers, each for its own time.
pub struct Cache<V> {
    answers: Mutex<HashMap<Question, (Instant, V)>>,
    most: usize,
}

impl<V: Clone> Cache<V> {
    /// An empty one.
    pub fn new(most: usize) -> Self {
        Self {
            answers: Mutex::default(),
            most,
        }
    }

    /// An answer whose time is not over.
    pub fn get(&self, question: &Question) -> Option<V> {
        let answers = self.answers.lock();
        let (until, answer) = answers.get(question)?;
        (Instant::now() < *until).then(|| answer.clone())
    }

    /// Keeps an answer. When it is full, what is over goes first, then what would be over next.
    pub fn put(&self, question: Question, answer: V, time: Duration) {
        let now = Instant::now();
        let mut answers = self.answers.lock();
        if answers.len() >= self.most && !answers.contains_key(&question) {
            answers.retain(|_, (until, _)| now < *until);
        }
        while answers.len() >= self.most && !answers.contains_key(&question) {
            let next = answers.iter().min_by_key(|(_, (until, _))| *until);
            let Some(next) = next.map(|(question, _)| *question) else {
                break;
            };
            answers.remove(&next);
        }
        answers.insert(question, (now + time, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_for_its_time() {
        let cache = Cache::new(10);
        let asked = question(b"may ann?");
        cache.put(asked, true, Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(cache.get(&asked), Some(true));
        assert_eq!(cache.get(&question(b"may ann")), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(cache.get(&asked), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_cache_loses_what_is_over_and_then_what_is_over_next() {
        let cache = Cache::new(3);
        let number = |n: u8| question(&[n]);
        for (n, seconds) in [(1, 1), (2, 20), (3, 10)] {
            cache.put(number(n), n, Duration::from_secs(seconds));
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        cache.put(number(4), 4, Duration::from_secs(30));
        let held = |cache: &Cache<u8>| {
            (1..=5)
                .filter_map(|n| cache.get(&number(n)))
                .collect::<Vec<_>>()
        };
        assert_eq!(held(&cache), [2, 3, 4]);
        cache.put(number(5), 5, Duration::from_secs(30));
        assert_eq!(held(&cache), [2, 4, 5]);
    }
}
