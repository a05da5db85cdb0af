//! One file a command.

pub mod bind;
pub mod cluster;
pub mod get;
pub mod quickstart;
pub mod start;
pub mod syncer;
pub mod workspace;
