//! One file a command.

pub mod bind;
pub mod cluster;
pub mod completion;
pub mod controllers;
pub mod cordon;
mod decision;
pub mod doctor;
pub mod explain;
mod freshness;
pub mod get;
pub mod member;
pub mod quickstart;
pub mod start;
pub mod sync;
pub mod syncer;
pub mod workspace;
