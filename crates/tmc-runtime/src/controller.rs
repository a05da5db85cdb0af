//! Runs a reconcile function over a queue.

use std::time::Duration;

use crate::client::Error;

/// What a reconcile wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Nothing until something changes.
    Done,
    /// Again after this long, without counting as a failure.
    RequeueAfter(Duration),
}

/// Outcome of one reconcile; an error is logged and retried with the key's back-off.
pub type Outcome = Result<Flow, Error>;
