//! The product against real programs: one test binary, so that its tests share one real cluster a
//! role.
//!
//! A *member* is a real etcd, kube-apiserver, kube-controller-manager and kube-scheduler with one
//! node that kwok simulates; the hub is `tmc start` as a child process; the user is a real kubectl.
//! Everything listens on 127.0.0.1 and ends with this process, however it ends.
#![allow(clippy::unwrap_used)]

mod support;

mod bad_input;
mod bare_hub;
mod commands;
mod compare;
mod credentials;
mod data_dir;
mod deployment_mode;
mod garbage;
mod isolation;
mod main_job;
mod quickstart;
mod real_cluster;
mod tokens;
mod two_members;
