//! The rows of `first`: what they are called, what is to be reached, how they are measured.

use crate::report::Topic;

pub(crate) const COLD_START: Topic = Topic {
    name: "hub: cold start to ready",
    target: "≤ 100 ms",
    reference: "3.2 s",
    method: "a hub as a process on redb in an empty directory (makes its CA, store and root \
             workspaces); from spawn to the first 200 of /readyz over TLS, asked every ms; median",
};

pub(crate) const IDLE_MEMORY: Topic = Topic {
    name: "hub: idle memory",
    target: "≤ 25 MB",
    reference: "336 MB",
    method: "VmRSS and RssAnon of the last of these hubs, left alone for 5 s after ready",
};

pub(crate) const REFERENCE_START: Topic = Topic {
    name: "kube-apiserver + etcd, beside: cold start",
    target: "",
    reference: "3.2 s",
    method: "both programs started together on an empty directory, fsync on; from spawn to the \
             first 200 of /readyz over TLS, asked every ms; median",
};

pub(crate) const REFERENCE_MEMORY: Topic = Topic {
    name: "kube-apiserver + etcd, beside: idle memory",
    target: "",
    reference: "336 MB",
    method: "VmRSS of both, left alone for 5 s after ready",
};

pub(crate) const QUICKSTART: Topic = Topic {
    name: "quickstart --once",
    target: "≤ 3 s",
    reference: "",
    method: "wall time of `tmc quickstart --once` (built, two simulated members whose Pods take \
             300 ms to be ready), from spawn to exit 0; median",
};

/// The rows that need a member, and their targets as numbers.
pub(crate) struct Against {
    pub(crate) latency: Topic,
    /// Most p50 and p99.
    pub(crate) latency_ms: (f64, f64),
    /// What of the latency is the member's own.
    pub(crate) alone: Topic,
    pub(crate) status: Topic,
    pub(crate) status_ms: (f64, f64),
    pub(crate) burst: Topic,
    /// Least objects a second.
    pub(crate) burst_rate: f64,
    pub(crate) syncer: Topic,
    /// Most idle, and with objects.
    pub(crate) syncer_mb: (f64, f64),
}

pub(crate) const SIMULATED: Against = Against {
    latency: Topic {
        name: "simulated: hub → member, p50 / p99",
        target: "≤ 4 / 10 ms",
        reference: "15.9 / 22 ms",
        method: "300 ConfigMaps created over TLS at 50/s, open loop; from the intended send time \
                 until a watch on the member shows it; hub on redb, Hosted syncer, member in process",
    },
    latency_ms: (4.0, 10.0),
    alone: Topic {
        name: "simulated: the member alone, p50 / p99",
        target: "",
        reference: "",
        method: "the same ConfigMaps created in the member itself, member in process, until its own watch shows \
                 them: the part of the row above that no hub can save",
    },
    status: Topic {
        name: "simulated: status back, p50 / p99",
        target: "p50 ≤ 4 ms",
        reference: "p50 11.8 ms",
        method: "300 status changes at 50/s over 50 StatefulSets (the simulation writes no status \
                 of these), open loop; from the intended write in the member until a watch on the \
                 hub over TLS shows it or a later one; in brackets p50 from when the member's own \
                 watch showed it",
    },
    status_ms: (4.0, f64::INFINITY),
    burst: Topic {
        name: "simulated: burst, objects a second",
        target: "≥ 2,000",
        reference: "114",
        method: "2,000 ConfigMaps created over TLS, 64 at once; from the first request until a \
                 watch on the member has shown all",
    },
    burst_rate: 2000.0,
    syncer: Topic {
        name: "simulated: syncer memory, idle / 2,650 objects",
        target: "≤ 12 / 25 MB",
        reference: "74 / 130 MB",
        method: "a syncer as a process, hub and member over TLS: VmRSS and RssAnon 5 s after its \
                 SyncTarget was Ready, and 5 s after 2,650 ConfigMaps of 1 KiB were in the member",
    },
    syncer_mb: (12.0, 25.0),
};

pub(crate) const REAL: Against = Against {
    latency: Topic {
        name: "real: hub → member, p50 / p99",
        target: "≤ 8 / 11 ms",
        reference: "15.9 / 22 ms",
        method: "as simulated; the member is etcd (fsync on) and kube-apiserver, over TLS",
    },
    latency_ms: (8.0, 11.0),
    alone: Topic {
        name: "real: the member alone, p50 / p99",
        target: "",
        reference: "",
        method: "the same ConfigMaps created in the member itself, over TLS, until its own watch shows \
                 them: the part of the row above that no hub can save",
    },
    status: Topic {
        name: "real: status back, p50 / p99",
        target: "p50 ≤ 4 ms",
        reference: "p50 11.8 ms",
        method: "as simulated, with Deployments; the time includes the member's own commit",
    },
    status_ms: (4.0, f64::INFINITY),
    burst: Topic {
        name: "real: burst, objects a second",
        target: "≥ 500",
        reference: "114",
        method: "as simulated",
    },
    burst_rate: 500.0,
    syncer: Topic {
        name: "real: syncer memory, idle / 2,650 objects",
        target: "≤ 12 / 25 MB",
        reference: "74 / 130 MB",
        method: "as simulated",
    },
    syncer_mb: (12.0, 25.0),
};

/// The rows of `fleet`.
pub(crate) mod fleet {
    use crate::report::Topic;

    pub(crate) const START: Topic = Topic {
        name: "start",
        target: "",
        reference: "",
        method: "SyncTargets created over TLS, 64 at once; then every agent opens its session (64 at \
                 once), until a watch shows all as Ready; hub on redb, a process of its own",
    };

    pub(crate) const MEMORY: Topic = Topic {
        name: "memory each",
        target: "≤ 100 KiB",
        reference: "150 KiB (best peer)",
        method: "VmRSS (and RssAnon) of the hub with all sessions and watches, less what it took 5 s \
                 after its start, by the number of targets; each agent has a session and a watch of \
                 each resource that it would sync",
    };

    pub(crate) const WRITES: Topic = Topic {
        name: "persisted writes",
        target: "≤ 5/s",
        reference: "17–100/s at 1,000",
        method: "revisions of the store in a minute in which nothing happens but beats",
    };

    pub(crate) const PROCESSOR: Topic = Topic {
        name: "processor time",
        target: "",
        reference: "",
        method: "user and system time of the hub in the same minute",
    };

    pub(crate) const PARTIAL_LOSS: Topic = Topic {
        name: "silence of a tenth to NotReady, p50 / p99 / max",
        method: "every tenth agent goes silent at once, their sockets stay open; from the last beat of \
                 each (every 8 to 9.6 s) until a watch shows its target as not Ready",
        ..LOSS
    };

    pub(crate) const LOSS: Topic = Topic {
        name: "silence of all to NotReady, p50 / p99 / max",
        target: "≤ 31 s",
        reference: "40–300 s",
        method: "as for a tenth, with all agents: each target is a write of its own",
    };

    pub(crate) const RETURN: Topic = Topic {
        name: "all back at once to Ready, p50 / p99 / max",
        target: "",
        reference: "",
        method: "all agents open a new session within half a second, 64 handshakes at once; from then \
                 until a watch shows each target as Ready",
    };

    pub(crate) const PLACEMENTS: Topic = Topic {
        name: "Placements scheduled, 1,000 targets",
        target: "≥ 5,000/s",
        reference: "",
        method: "Placements that find no Location, then a Location with 1,000 live targets; from its \
                 creation until a watch shows the last as Scheduled, all writes durable",
    };

    pub(crate) const PASSES: Topic = Topic {
        name: "a pass of a controller under 100,000 objects, p50 / p99",
        target: "",
        reference: "",
        method: "100,000 ConfigMaps in 100 placed namespaces; then 3,000 more at 100/s: bounds of the \
                 buckets of workqueue_work_duration_seconds (each half as wide again) of all \
                 controllers in that time",
    };

    pub(crate) const BLACK_HOLES: Topic = Topic {
        name: "longest time between looks at a healthy cluster, 100 black holes",
        target: "≤ 60 s more",
        reference: "",
        method: "5 clusters that answer beside clusters that take a connection and say nothing; for \
                 150 s from their registration on; in brackets the same on a hub without black holes",
    };
}
