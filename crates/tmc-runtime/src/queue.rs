//! A typed work queue: one run at a time per key, per-key exponential back-off, timed re-queue.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::jitter::{Jitter, exponential};

/// Delay after the first failure of a key.
const FIRST_RETRY: Duration = Duration::from_millis(5);
/// Longest delay after failures of a key (before jitter).
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Keys waiting to be worked on. Cheap to clone. A key added while it is being worked on runs
/// again afterwards; a key added twice runs once.
pub struct WorkQueue<K>(Arc<Inner<K>>);

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<K> {
    name: &'static str,
    jitter: Jitter,
    state: Mutex<State<K>>,
    changed: Notify,
}

struct State<K> {
    /// Keys to be taken, in order; each is in `waiting` too.
    ready: VecDeque<K>,
    waiting: HashSet<K>,
    running: HashSet<K>,
    /// Keys added while running: they become ready when their run ends.
    again: HashSet<K>,
    /// Timers by time; the number keeps equal times apart.
    timers: BTreeMap<(Instant, u64), K>,
    timer_of: HashMap<K, (Instant, u64)>,
    next_timer: u64,
    failures: HashMap<K, u32>,
    /// How often a key became one to be worked on.
    additions: u64,
}

impl<K: Clone + Eq + Hash> State<K> {
    fn add(&mut self, key: K) {
        if self.running.contains(&key) {
            self.additions += u64::from(self.again.insert(key));
        } else if self.waiting.insert(key.clone()) {
            self.ready.push_back(key);
            self.additions += 1;
        }
    }

    fn add_at(&mut self, key: K, at: Instant) {
        if let Some(set) = self.timer_of.get(&key) {
            if set.0 <= at {
                return;
            }
            self.timers.remove(set);
        }
        let id = (at, self.next_timer);
        self.next_timer += 1;
        self.timers.insert(id, key.clone());
        self.timer_of.insert(key, id);
    }

    fn fire(&mut self, now: Instant) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            self.timer_of.remove(&key);
            self.add(key);
        }
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> WorkQueue<K> {
    /// An empty queue; `name` for logs and metrics.
    pub fn new(name: &'static str) -> Self {
        Self::with_jitter(name, Jitter::random())
    }

    /// An empty queue with its randomness given.
    pub fn with_jitter(name: &'static str, jitter: Jitter) -> Self {
        let state = State {
            ready: VecDeque::new(),
            waiting: HashSet::new(),
            running: HashSet::new(),
            again: HashSet::new(),
            timers: BTreeMap::new(),
            timer_of: HashMap::new(),
            next_timer: 0,
            failures: HashMap::new(),
            additions: 0,
        };
        Self(Arc::new(Inner {
            name,
            jitter,
            state: Mutex::new(state),
            changed: Notify::new(),
        }))
    }

    /// The name given at creation.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Adds a key now.
    pub fn add(&self, key: K) {
        self.0.state.lock().add(key);
        self.0.changed.notify_one();
    }

    /// Adds a key at a later time; an earlier time already set wins.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.0.state.lock().add_at(key, Instant::now() + delay);
        self.0.changed.notify_one();
    }

    /// Adds a key after a failure: 5 ms after the first, doubling up to 60 s, each lengthened by up
    /// to a fifth so that keys which failed together do not come back together. Never sooner than
    /// `at_least`. Gives the delay.
    pub fn retry(&self, key: K, at_least: Duration) -> Duration {
        let mut state = self.0.state.lock();
        let failures = state.failures.entry(key.clone()).or_insert(0);
        let delay = exponential(FIRST_RETRY, LAST_RETRY, *failures).max(at_least);
        *failures = failures.saturating_add(1);
        let delay = self.0.jitter.stretch(delay, 20);
        state.add_at(key, Instant::now() + delay);
        drop(state);
        self.0.changed.notify_one();
        delay
    }

    /// Forgets a key's failures: its next one counts as the first.
    pub fn forget(&self, key: &K) {
        self.0.state.lock().failures.remove(key);
    }

    /// Takes the next key that is ready, waiting for one. Each key taken must be given back with
    /// [`WorkQueue::done`]; until then nobody else gets it.
    ///
    /// # Cancellation
    /// Dropping the future takes no key.
    pub async fn next(&self) -> K {
        loop {
            let changed = self.0.changed.notified();
            let timer = {
                let mut state = self.0.state.lock();
                state.fire(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.waiting.remove(&key);
                    state.running.insert(key.clone());
                    if !state.ready.is_empty() {
                        // One notification may stand for several keys: pass it on.
                        self.0.changed.notify_one();
                    }
                    return key;
                }
                state.timers.keys().next().map(|(at, _)| *at)
            };
            match timer {
                Some(at) => tokio::select! {
                    // In this order, so that a run can be replayed.
                    biased;
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }

    /// Gives a key back. If it was added meanwhile it becomes ready again.
    pub fn done(&self, key: &K) {
        let mut state = self.0.state.lock();
        state.running.remove(key);
        if state.again.remove(key) {
            // It was counted when it came.
            state.additions -= 1;
            state.add(key.clone());
            drop(state);
            self.0.changed.notify_one();
        }
    }

    /// Keys ready to be taken now (without those whose time has not come and those being worked on).
    pub fn len(&self) -> usize {
        self.0.state.lock().ready.len()
    }

    /// How often a key became one to be worked on since the beginning; one that already was does not
    /// count.
    pub fn additions(&self) -> u64 {
        self.0.state.lock().additions
    }

    /// Whether no key is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing is ready, running or timed.
    pub fn is_idle(&self) -> bool {
        let state = self.0.state.lock();
        state.ready.is_empty() && state.running.is_empty() && state.timers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queue() -> WorkQueue<&'static str> {
        WorkQueue::with_jitter("test", Jitter::seeded(1))
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_key_added_twice_is_taken_once() {
        let queue = queue();
        queue.add("a");
        queue.add("b");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        assert_eq!(queue.next().await, "b");
        assert!(queue.is_empty());
        assert_eq!(queue.additions(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_while_running_runs_again_afterwards_and_never_twice_at_once() {
        let queue = queue();
        queue.add("a");
        let key = queue.next().await;
        queue.add("a");
        let second = tokio::time::timeout(SECOND, queue.next()).await;
        assert!(second.is_err(), "taken while running");
        queue.done(&key);
        assert_eq!(queue.next().await, "a");
        queue.done(&key);
        assert!(queue.is_idle());
        assert_eq!(queue.additions(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_of_two_times_wins() {
        let queue = queue();
        let start = Instant::now();
        queue.add_after("a", SECOND * 5);
        queue.add_after("a", SECOND);
        queue.add_after("a", SECOND * 9);
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed().as_secs(), 1);
        queue.done(&"a");
        assert!(queue.is_idle(), "the later times are gone");
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_shorter_than_the_one_waited_for_wakes_the_waiter() {
        let queue = queue();
        let start = Instant::now();
        queue.add_after("late", SECOND * 60);
        let other = queue.clone();
        let waiter = tokio::spawn(async move { other.next().await });
        tokio::task::yield_now().await;
        queue.add_after("soon", SECOND);
        assert_eq!(waiter.await.unwrap(), "soon");
        assert_eq!(start.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_double_the_delay_and_success_forgets_them() {
        let queue = queue();
        let delays: Vec<_> = (0..3).map(|_| queue.retry("a", Duration::ZERO)).collect();
        assert!(
            delays[0] >= FIRST_RETRY && delays[0] <= FIRST_RETRY * 12 / 10,
            "{delays:?}"
        );
        assert!(delays[2] >= FIRST_RETRY * 4, "{delays:?}");
        queue.forget(&"a");
        assert!(queue.retry("a", Duration::ZERO) <= FIRST_RETRY * 12 / 10);
        assert!(
            queue.retry("a", SECOND * 7) >= SECOND * 7,
            "the server's wish counts"
        );
    }

    #[tokio::test]
    async fn many_workers_share_keys_added_at_once() {
        let queue = WorkQueue::with_jitter("test", Jitter::seeded(1));
        let workers: Vec<_> = (0..8)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        (0..8).for_each(|key: u8| queue.add(key));
        let mut taken = Vec::new();
        for worker in workers {
            taken.push(worker.await.unwrap());
        }
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    proptest! {
        /// Whatever is added is taken at least once after its last addition, one run at a time.
        #[test]
        fn nothing_added_is_lost(steps in prop::collection::vec((0_u8..4, 0_u8..3), 1..200)) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let queue = WorkQueue::with_jitter("test", Jitter::seeded(1));
                let mut pending = HashSet::new();
                let mut running = Vec::new();
                for (key, step) in steps {
                    match step {
                        0 => { queue.add(key); pending.insert(key); }
                        1 => { queue.add_after(key, SECOND); pending.insert(key); }
                        _ => if let Some(done) = running.pop() { queue.done(&done); },
                    }
                    if let Ok(taken) = tokio::time::timeout(Duration::ZERO, queue.next()).await {
                        prop_assert!(!running.contains(&taken));
                        pending.remove(&taken);
                        running.push(taken);
                    }
                }
                for key in running { queue.done(&key); }
                while let Ok(taken) = tokio::time::timeout(SECOND * 2, queue.next()).await {
                    pending.remove(&taken);
                    queue.done(&taken);
                }
                prop_assert!(pending.is_empty());
                prop_assert!(queue.is_idle());
                Ok(())
            })?;
        }
    }
}
