//! What the tests stand on.

pub(crate) mod http;
pub(crate) mod hub;
pub(crate) mod kubectl;
pub(crate) mod pki;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod real;
pub(crate) mod replica;
pub(crate) mod scratch;
pub(crate) mod wait;
