//! Limits and switches of a server. Defaults are Kubernetes' own where it has one.

use std::time::Duration;

/// What a server allows, and how it behaves where there is a choice.
#[derive(Clone, Debug)]
pub struct Config {
    /// Largest request body in bytes (Kubernetes: 3 MiB); more is 413.
    pub max_body_bytes: usize,
    /// Time from the first byte of a request to the head of its answer; more is 504. Streams
    /// (watches, long lists) are not bound by it once they have begun.
    pub request_timeout: Duration,
    /// Reading requests served at once, watches not counted; more is 429.
    pub max_reads_in_flight: usize,
    /// Writing requests served at once; more is 429.
    pub max_writes_in_flight: usize,
    /// Shortest life of a watch without `timeoutSeconds`; see `max_watch`.
    pub min_watch: Duration,
    /// Longest life of a watch, whatever `timeoutSeconds` says. Without it a random time between
    /// `min_watch` and this one, so that clients do not come back all at once.
    pub max_watch: Duration,
    /// On shutdown watches end at random moments within this time.
    pub watch_drain: Duration,
    /// Simulated members only: an apply patch is a forced merge (creates what is absent), instead
    /// of 415 until server-side apply is complete.
    pub apply_as_merge: bool,
    /// Smallest answer in bytes that is compressed for clients that accept gzip.
    pub gzip_above: u64,
    /// The network side.
    pub listener: ListenerConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_body_bytes: 3 * 1024 * 1024,
            request_timeout: Duration::from_secs(60),
            max_reads_in_flight: 400,
            max_writes_in_flight: 200,
            min_watch: Duration::from_secs(30 * 60),
            max_watch: Duration::from_secs(60 * 60),
            watch_drain: Duration::from_millis(500),
            apply_as_merge: false,
            gzip_above: 128 * 1024,
            listener: ListenerConfig::default(),
        }
    }
}

/// Limits of connections.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Open connections; further ones wait in the kernel's queue. An agent has two of them (session,
    /// watches), for some time three.
    pub max_connections: usize,
    /// HTTP/2 streams of one connection (watches included).
    pub max_streams: u32,
    /// Bytes buffered for one HTTP/2 stream whose reader is slow.
    pub send_buffer: usize,
    /// HTTP/2 PING interval, and the time within which a PING must be answered.
    pub keep_alive: Duration,
    /// Time for the TLS handshake.
    pub handshake_timeout: Duration,
    /// Time for the head of an HTTP/1 request, idle time between two included, and for the first
    /// request of a connection.
    pub header_timeout: Duration,
    /// On shutdown, time for requests under way before their connections are cut.
    pub drain_timeout: Duration,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            max_connections: 50_000,
            max_streams: 1000,
            send_buffer: 32 * 1024,
            keep_alive: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(90),
            drain_timeout: Duration::from_secs(10),
        }
    }
}
