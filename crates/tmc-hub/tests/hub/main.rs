//! The hub through its server's service, as in-process clients use it.
#![allow(clippy::unwrap_used)]

mod access;
mod certificates;
mod events;
mod garbage;
mod lifecycle;
mod objects;
mod support;
mod tokens;
mod watch;
