//! Several replicas of one agent: the holder of a Lease in the member works, the others stand by.
//!
//! The Lease is in the member because that is what they all write: who is cut off from it cannot
//! harm it either. A term's connections, to hub and member, are behind its fence.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tmc_runtime::client::Error;
use tmc_runtime::lease::{Election, Term};
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, AgentOptions};

/// Time for what is under way when a term is over; then it is dropped. More than the agent's leave of
/// the hub takes.
const WIND_DOWN: Duration = Duration::from_secs(5);

/// Works in each term of this replica, as an agent that knows nothing of the terms before, and stands
/// by in between, until `stop` is cancelled; then the Lease is released, so that another takes over
/// at once.
///
/// # Guarantees
/// Nothing is written to hub or member outside of a term.
///
/// # Errors
/// As [`Agent::run`]: what the hub has against one replica it has against all.
///
/// # Cancellation
/// Dropping the future stops the agent and leaves the Lease to expire.
pub async fn run(
    options: AgentOptions,
    election: Election,
    stop: CancellationToken,
) -> Result<(), Error> {
    let stop = stop.child_token();
    let verdict = Arc::new(Mutex::new(None));
    let (ended, told) = (stop.clone(), verdict.clone());
    let lead = move |term: Term| {
        let (options, ended, told) = (options.clone(), ended.clone(), told.clone());
        async move {
            if let Err(error) = work(options, &term).await {
                *told.lock() = Some(error);
                ended.cancel();
            }
        }
    };
    election.run(stop, lead).await;
    let verdict = verdict.lock().take();
    verdict.map_or(Ok(()), Err)
}

/// One term.
async fn work(options: AgentOptions, term: &Term) -> Result<(), Error> {
    let agent = Agent::new(AgentOptions {
        upstream: options.upstream.fenced(&term.fence),
        downstream: options.downstream.fenced(&term.fence),
        ..options
    });
    let late = async {
        term.over.cancelled().await;
        tokio::time::sleep(WIND_DOWN).await;
    };
    tokio::select! {
        ended = agent.run(term.over.clone()) => ended,
        () = late => {
            // A member that is cut off answers nothing: no reason not to stand again.
            tracing::warn!("a term has ended with work under way");
            Ok(())
        }
    }
}
