//! What a hub takes from outside of it: time, randomness, and the wires between its parts.

use std::sync::Arc;

use tmc_controllers::AgentSettings;
use tmc_hub::environment::{SharedEnvironment, SystemEnvironment};
use tmc_runtime::{Clock, Connection, Jitter};
use tmc_virtual::syncer::TargetId;

/// A part of the process that speaks to the hub's API as others do.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// The controllers.
    Controllers,
    /// The virtual workspaces.
    Views,
    /// The Hosted syncer of a target.
    Syncer(&'a TargetId),
}

/// The surroundings of a hub. The machine's are [`Machine`]; a simulation has its own.
pub trait Surroundings: Send + Sync + 'static {
    /// Time and uids of the hub.
    fn environment(&self) -> SharedEnvironment;

    /// The clock of controllers and views.
    fn clock(&self) -> Clock;

    /// The clock of a target's Hosted syncer, which elsewhere is another machine's.
    fn syncer_clock(&self, _: &TargetId) -> Clock {
        self.clock()
    }

    /// Randomness for retries and timers.
    fn jitter(&self) -> Jitter;

    /// How the store works.
    fn store(&self) -> tmc_store::Options;

    /// The way from a part to the hub.
    fn wire(&self, part: Part<'_>, direct: Connection) -> Connection;

    /// What agents outside of this process are made with; without a certificate authority they
    /// cannot trust the hub.
    fn agents(&self) -> AgentSettings {
        AgentSettings::default()
    }
}

/// The machine: its clock, its randomness, and no wire between parts of one process.
#[derive(Clone, Debug)]
pub struct Machine {
    jitter: Jitter,
    agents: AgentSettings,
}

impl Machine {
    /// With what agents outside of this process are made with.
    pub fn with_agents(agents: AgentSettings) -> Self {
        Self {
            jitter: Jitter::random(),
            agents,
        }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::with_agents(AgentSettings::default())
    }
}

impl Surroundings for Machine {
    fn environment(&self) -> SharedEnvironment {
        Arc::new(SystemEnvironment)
    }

    fn clock(&self) -> Clock {
        Clock::system()
    }

    fn jitter(&self) -> Jitter {
        self.jitter.clone()
    }

    fn store(&self) -> tmc_store::Options {
        tmc_store::Options::default()
    }

    fn wire(&self, _: Part<'_>, direct: Connection) -> Connection {
        direct
    }

    fn agents(&self) -> AgentSettings {
        self.agents.clone()
    }
}
