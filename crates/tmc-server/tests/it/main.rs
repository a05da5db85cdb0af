//! The whole server over a small surface in memory: through the service, and over sockets.
#![allow(clippy::unwrap_used)]

mod discovery;
mod fake;
mod harness;
mod hostile;
mod listener;
mod patch;
mod read;
mod watch;
mod write;
