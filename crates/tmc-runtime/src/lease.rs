//! Leader election by a `coordination.k8s.io/v1` Lease, and the fence around what a leader writes.
//!
//! **Rule.** A leader writes until its *deadline* after the last acknowledged renewal was sent; others
//! wait for the Lease's whole *duration* after they last saw it change. As long as clocks run at
//! the same speed to within the difference (a fifth and more), no two replicas hold a [`Fence`] at
//! one instant. Requests that are under way when a fence ends are dropped; the same difference is
//! the time that they have to be dropped in.

mod decide;
mod fence;

use std::time::Duration;

use serde_json::Value;
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use decide::{Candidate, Moment, Record, Step, Times};
pub(crate) use fence::ENDED;
pub use fence::{Fence, Moments};

use crate::client::{Error, ResourceClient};
use crate::connection::Hub;
use crate::jitter::Jitter;

/// Share of the retry interval by which it is lengthened at random, in percent.
const SPREAD: u32 = 20;

/// What an election is about.
#[derive(Clone)]
pub struct ElectionOptions {
    /// Namespace of the Lease. It must exist.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// This replica, at this start: see [`Candidate::new`].
    pub identity: String,
    /// Its times.
    pub times: Times,
    /// The clocks.
    pub clock: Moments,
    /// Randomness for retries.
    pub jitter: Jitter,
}

/// One term of this replica.
#[derive(Clone, Debug)]
pub struct Term {
    /// The right to write.
    pub fence: Fence,
    /// Fires when the term is to end (it was lost, or the process stops): stop the writers and
    /// return.
    pub over: CancellationToken,
}

/// A replica that stands for election.
pub struct Election {
    client: ResourceClient,
    namespace: String,
    name: String,
    candidate: Candidate,
    clock: Moments,
    jitter: Jitter,
    /// Labels and annotations of a Lease that is made.
    marks: Value,
    /// The Lease as last read or written, to write without reading first.
    last: Option<Value>,
}

impl Election {
    /// A candidate on a hub, for a Lease of its workspace `root`.
    ///
    /// # Errors
    /// A sentence if the times are not sound: see [`Times::check`].
    pub fn new(hub: &Hub, options: ElectionOptions) -> Result<Self, String> {
        Self::over(hub.cluster(&ClusterName::new(ClusterName::ROOT)), options)
    }

    /// A candidate on any server.
    ///
    /// # Errors
    /// As [`Election::new`].
    pub fn over(client: kube::Client, options: ElectionOptions) -> Result<Self, String> {
        options.times.check()?;
        let gvr = GroupVersionResource::new("coordination.k8s.io", "v1", "leases");
        Ok(Self {
            client: ResourceClient::new(client, gvr),
            namespace: options.namespace,
            name: options.name,
            candidate: Candidate::new(&options.identity, options.times),
            clock: options.clock,
            jitter: options.jitter,
            marks: Value::Null,
            last: None,
        })
    }

    /// Gives these labels and annotations (metadata without a name) to a Lease that it makes, by
    /// which it is found when it is to be removed. One that is there already stays as it is.
    #[must_use]
    pub fn marked(mut self, metadata: Value) -> Self {
        self.marks = metadata;
        self
    }

    /// How this candidate calls itself in the Lease.
    pub fn identity(&self) -> &str {
        self.candidate.identity()
    }

    /// Stands until `stop`, and runs `lead` as a task in each term of this replica. The next term
    /// begins after `lead` has returned. When `stop` fires while leading, the term goes on being
    /// renewed until `lead` has returned; then the Lease is released, so that the next leader need
    /// not wait.
    ///
    /// # Cancellation
    /// Dropping the future aborts `lead` and leaves the Lease to expire.
    pub async fn run<F, Fut>(mut self, stop: CancellationToken, lead: F)
    where
        F: Fn(Term) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        while let Some(term) = self.acquire(&stop).await {
            tracing::info!(
                lease = self.name,
                identity = self.candidate.identity(),
                "leading"
            );
            let work = AbortOnDropHandle::new(tokio::spawn(lead(term.clone())));
            self.hold(&term, work, &stop).await;
            self.candidate_again(&term).await;
        }
    }

    /// Waits for a term; `None` when it is to stop.
    async fn acquire(&mut self, stop: &CancellationToken) -> Option<Term> {
        loop {
            if stop.is_cancelled() {
                return None;
            }
            match self.round().await {
                Ok(Some(sent)) if self.candidate.leads(&self.clock.now()) => {
                    let deadline = self.candidate.times().deadline;
                    return Some(Term {
                        fence: Fence::new(self.clock.clone(), deadline, sent),
                        over: CancellationToken::new(),
                    });
                }
                Ok(_) => {}
                // Another candidate was faster.
                Err(error) if error.is_conflict() => {}
                Err(error) => {
                    tracing::warn!(lease = self.name, %error, "cannot stand for election")
                }
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(self.pause()) => {}
            }
        }
    }

    /// Renews the term until its work has ended.
    async fn hold(&mut self, term: &Term, work: AbortOnDropHandle<()>, stop: &CancellationToken) {
        tokio::pin!(work);
        let mut next = Instant::now() + self.pause();
        loop {
            let lost = !term.fence.holds();
            tokio::select! {
                biased;
                ended = &mut work => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "what a leader does has ended badly");
                    }
                    return;
                }
                () = term.fence.ended(), if !term.over.is_cancelled() => {
                    tracing::warn!(lease = self.name, "the lease was lost");
                    term.over.cancel();
                }
                () = stop.cancelled(), if !term.over.is_cancelled() => term.over.cancel(),
                () = tokio::time::sleep_until(next), if !lost => {
                    self.renew(&term.fence).await;
                    next = Instant::now() + self.pause();
                }
            }
        }
    }

    /// One attempt to prolong a term.
    async fn renew(&mut self, fence: &Fence) {
        let rounds = async {
            match self.round().await {
                // Somebody else wrote: see who at once.
                Err(error) if error.is_conflict() => self.round().await,
                outcome => outcome,
            }
        };
        let outcome = tokio::select! {
            () = fence.ended() => return,
            outcome = rounds => outcome,
        };
        match outcome {
            Ok(Some(sent)) => fence.renew(sent),
            // Somebody else has it.
            Ok(None) => fence.close(),
            Err(error) => tracing::warn!(lease = self.name, %error, "cannot renew the lease"),
        }
    }

    /// Ends a term whose work has ended: releases the Lease if it is still held.
    async fn candidate_again(&mut self, term: &Term) {
        let held = term.fence.holds();
        // Nothing that was left behind may write once others have been let in.
        term.fence.close();
        self.candidate.step_down();
        let Some(last) = self.last.take().filter(|_| held) else {
            return;
        };
        let lease = Candidate::released(&last, self.clock.now().wall);
        let release = self.client.replace(&self.namespace, &self.name, "", &lease);
        match tokio::time::timeout(self.patience(), release).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(lease = self.name, %error, "the lease was not released")
            }
            Err(_) => tracing::warn!(lease = self.name, "the lease was not released in time"),
        }
    }

    /// Looks at the Lease and writes it if that is due: when the write that was acknowledged had
    /// been sent, `None` if another one holds the Lease.
    async fn round(&mut self) -> Result<Option<Moment>, Error> {
        // A holder knows the Lease; if it does not any more, the write conflicts.
        let known = self.last.take();
        let known = known.filter(|_| self.candidate.leads(&self.clock.now()));
        let old = match known {
            Some(lease) => Some(lease),
            None => self.look().await?,
        };
        match self.candidate.step(&self.clock.now()) {
            Step::Wait => Ok(None),
            Step::StepDown => {
                self.candidate.step_down();
                Ok(None)
            }
            Step::Create | Step::Take | Step::Renew => self.write(old.as_ref()).await.map(Some),
        }
    }

    async fn look(&mut self) -> Result<Option<Value>, Error> {
        let read = match self
            .within(self.client.get(&self.namespace, &self.name))
            .await
        {
            Ok(lease) => Some(lease),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let record = read.as_ref().map(Record::read);
        self.candidate.observe(record, self.clock.now());
        Ok(read)
    }

    async fn write(&mut self, old: Option<&Value>) -> Result<Moment, Error> {
        let sent = self.clock.now();
        let (namespace, name) = (&self.namespace, &self.name);
        let mut lease = self.candidate.desired(namespace, name, old, sent.wall);
        let written = if old.is_some() {
            self.within(self.client.replace(namespace, name, "", &lease))
                .await?
        } else {
            for mark in ["labels", "annotations"] {
                if let Some(marks) = self.marks.get(mark) {
                    lease["metadata"][mark] = marks.clone();
                }
            }
            self.within(self.client.create(namespace, &lease)).await?
        };
        self.candidate.wrote(Record::read(&written), sent);
        self.last = Some(written);
        Ok(sent)
    }

    /// Half the deadline: a request that hangs leaves time for another.
    fn patience(&self) -> Duration {
        self.candidate.times().deadline / 2
    }

    async fn within(
        &self,
        call: impl Future<Output = Result<Value, Error>>,
    ) -> Result<Value, Error> {
        let late = || Error::Transport("no answer in time".into());
        tokio::time::timeout(self.patience(), call)
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    fn pause(&self) -> Duration {
        self.jitter.stretch(self.candidate.times().retry, SPREAD)
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
