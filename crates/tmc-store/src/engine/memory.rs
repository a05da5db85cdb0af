//! The engine that keeps nothing: for simulated clusters, tests and simulations.

use super::{Compaction, Engine, Loaded, Record};
use crate::Error;

/// Starts empty and forgets everything when it is dropped.
#[derive(Debug, Default)]
pub struct Memory {
    _not_built_by_hand: (),
}

impl Engine for Memory {
    fn load(&mut self) -> Result<Loaded, Error> {
        Ok(Loaded::default())
    }

    fn append(&mut self, _: &[Record], _: Option<&Compaction>) -> Result<(), Error> {
        Ok(())
    }
}
