//! How long the benchmark waits for what it cannot see.

use std::time::Duration;

use clap::Args;

/// Times that a measurement needs to mean anything. Shorter ones are for tests of the benchmark itself,
/// which only want to see that every row is measured.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Tempo {
    /// How long a hub is left alone before its memory is read, in seconds
    #[arg(long, default_value_t = 5, hide = true, value_name = "SECONDS")]
    settle: u64,
    /// Until agents have closed the connections on which they ask for nothing, in seconds: they look
    /// every 90 s for those that were not used for as long
    #[arg(long, default_value_t = 180, hide = true, value_name = "SECONDS")]
    idle: u64,
    /// The interval of beats, in seconds; 10 is what it is unless a SyncTarget says otherwise
    #[arg(long, default_value_t = 10, hide = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    beat: u64,
    /// How long black holes are looked at, in seconds: somewhat more than two intervals of probes
    #[arg(long, default_value_t = 150, hide = true, value_name = "SECONDS")]
    black_hole_window: u64,
}

impl Tempo {
    /// How long a hub is left alone before its memory is read.
    pub(super) fn settle(self) -> Duration {
        Duration::from_secs(self.settle)
    }

    /// Until connections that are not used are closed.
    pub(super) fn idle(self) -> Duration {
        Duration::from_secs(self.idle)
    }

    /// The interval of beats.
    pub(super) fn beat(self) -> Duration {
        Duration::from_secs(self.beat)
    }

    /// How long black holes are looked at.
    pub(super) fn black_hole_window(self) -> Duration {
        Duration::from_secs(self.black_hole_window)
    }
}
