//! The agent of one SyncTarget: brings objects from the hub's syncer view into a member cluster and
//! their status back. It only dials out; it runs inside the hub (Hosted) or as a process.
//!
//! ```text
//! view informers ──┐                        ┌──▶ member: namespaces, server-side apply, delete
//!                  ├─▶ queue ─▶ decide() ───┤
//! member informers ┘   (pure: spec, status) └──▶ view: finalizer, /status
//! ```
//! The agent's sign of life is a WebSocket session with the hub ([`Agent::run`]); a Hosted agent,
//! which runs in the hub's own process, posts heartbeats instead. Of several replicas of an agent one
//! does all this ([`replicas`]).
//!
//! Decisions are functions of what both sides look like now; every pass with the same inputs writes
//! nothing. What was applied is recorded on the member's object itself, so a restart re-sends
//! nothing that has not changed.

pub mod agent;
pub mod connect;
pub mod discovery;
pub mod mapping;
pub mod mutate;
pub mod namespaces;
mod packed;
mod places;
pub mod replicas;
mod report;
mod rights;
mod session;
pub mod spec;
pub mod status;

pub use agent::{Agent, AgentOptions, REPORT_EVERY};
pub use mapping::Target;
