//! One file a command.

pub mod bind;
pub mod cluster;
<<<<<<< HEAD
pub mod completion;
pub mod cordon;
mod decision;
pub mod doctor;
pub mod explain;
mod freshness;
=======
pub mod controllers;
>>>>>>> 2fe5630 (Run controllers beside a Kubernetes API server)
pub mod get;
pub mod member;
pub mod quickstart;
pub mod start;
pub mod sync;
pub mod syncer;
pub mod workspace;
