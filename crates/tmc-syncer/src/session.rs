//! The agent's sign of life: a `connect` session where the hub has one, POSTs of `heartbeat` where
//! it has not (a hub in the same process has no socket; a hub of another make may refuse).
//!
//! A beat says that the member is looked after. An agent that cannot reach it does not beat: one
//! that runs elsewhere, in the hub above all, would else keep a dead member alive.
//!
//! Either way it is told what to sync and delivers the report of the member, and ends only when the
//! hub says that the agent has no business any more.

mod look;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tmc_api::syncer::{
    AgentFrame, Hello, HubFrame, MAX_FRAME, Ping, SessionConfig, SyncedReport, Welcome,
};
use tmc_api::time::MilliTime;
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::status::{ApiError, Reason};
use tmc_runtime::client::{Error, get_path, post_path};
use tmc_runtime::jitter::{Jitter, exponential};
use tmc_runtime::{Clock, Connection};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::connect::{Ended, Link, accepted};
use crate::mapping::Target;

/// Where the syncer endpoints are, below a target's root.
const ENDPOINTS: &str = "/apis/syncer.kcp.io/v1alpha1";
/// How long the first beat waits for the first report.
const FIRST_REPORT: Duration = Duration::from_secs(2);
/// Beats, until the hub says otherwise.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long beats are POSTed before a session is tried again.
const POST_FOR: Duration = Duration::from_secs(60);
/// Back-off between sessions.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// A session that lasted this long was a good one.
const GOOD_SESSION: Duration = Duration::from_secs(60);
/// Time for the hub's welcome, and for its list of resources.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Time for the member to say that it is there, and how soon one that did not is asked again.
const MEMBER_WITHIN: Duration = Duration::from_secs(5);
const MEMBER_RETRY: Duration = Duration::from_secs(1);
/// Time for the close frame after a revocation.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// Intervals without a word after which the hub counts as gone.
const MISSED: u32 = 3;

/// What the hub tells the agent.
pub(crate) trait Listener: Send + Sync {
    /// The resources to sync, sorted.
    fn resources(&self, wanted: &[GroupVersionResource]);
    /// What is configured; what is absent stays as it is.
    fn configure(&self, config: &SessionConfig);
    /// What is synced, sorted; nothing while the hub has not said it.
    fn syncs(&self) -> Vec<GroupVersionResource>;
    /// What is kept in the member; `None` while that is not known.
    fn synced(&self) -> Option<SyncedReport>;
}

/// Speaks for one agent.
pub(crate) struct Session<L> {
    pub upstream: Connection,
    pub downstream: Connection,
    pub target: Target,
    /// How this replica calls itself.
    pub identity: String,
    pub listener: L,
    /// The time that beats say.
    pub clock: Clock,
    pub jitter: Jitter,
    /// How often the member is looked at.
    pub report_every: Duration,
}

/// The latest report; marked as changed while it has not been delivered.
type Reports = watch::Receiver<Option<Arc<Value>>>;

impl<L: Listener> Session<L> {
    /// Keeps the agent alive on the hub until `stop` is cancelled.
    ///
    /// # Errors
    /// When the hub says that this SyncTarget is gone or has another uid (404, 409), or that the
    /// agent may not sync it (401, 403). Everything else is retried for ever.
    pub(crate) async fn run(&self, stop: &CancellationToken) -> Result<(), Error> {
        let (sender, reports) = watch::channel(None);
        tokio::select! {
            biased;
            ended = self.keep(reports, stop) => ended,
            never = self.look(&sender) => match never {},
        }
    }

    /// Whether the member answers, whatever it says: only a proxy before it has nobody to ask.
    async fn is_member_there(&self) -> bool {
        let client = self.downstream.base_client();
        match timeout(MEMBER_WITHIN, get_path(&client, "/version")).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => error.code().is_some_and(|code| code < 500),
            Err(_) => false,
        }
    }

    async fn keep(&self, mut reports: Reports, stop: &CancellationToken) -> Result<(), Error> {
        let hub = self.upstream.client(&self.target.view_path());
        let mut talk = Talk {
            session: self,
            hub,
            sequence: 0,
        };
        // The first beat is best one with a report: what is synced depends on it.
        let _ = timeout(FIRST_REPORT, reports.wait_for(Option::is_some)).await;
        reports.mark_changed();
        let mut failures = 0;
        while !stop.is_cancelled() {
            let started = Instant::now();
            let ended = match talk.connect().await {
                Ok((link, welcome)) => talk.hold(link, &welcome, &mut reports, stop).await,
                Err(Ended::Lost(why)) => Err(Ended::Lost(why)),
                // Whatever the hub has against a session, the answer to a beat says what it means.
                Err(Ended::Final(error)) => {
                    tracing::debug!(%error, "no session: beats are posted");
                    talk.post(&mut reports, stop).await.map_err(Ended::Final)
                }
            };
            match ended {
                Ok(()) => failures = 0,
                Err(Ended::Final(error)) => return Err(error),
                Err(Ended::Lost(why)) => {
                    if started.elapsed() > GOOD_SESSION {
                        failures = 0;
                    }
                    let wait = exponential(FIRST_RETRY, LAST_RETRY, failures);
                    let wait = self.jitter.stretch(wait, 100);
                    failures += 1;
                    tracing::warn!(why, ?wait, "the session with the hub is lost");
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => {}
                        () = sleep(wait) => {}
                    }
                }
            }
            // The hub may be another process by now, which knows nothing.
            reports.mark_changed();
        }
        Ok(())
    }
}

/// What goes on between an agent and its hub.
struct Talk<'a, L> {
    session: &'a Session<L>,
    hub: kube::Client,
    /// Rises with every beat, whatever way it takes.
    sequence: u64,
}

impl<L: Listener> Talk<'_, L> {
    /// Opens a session. A hub that answers but wants no session is [`Ended::Final`].
    async fn connect(&mut self) -> Result<(Link, Welcome), Ended> {
        let upstream = &self.session.upstream;
        if !upstream.can_upgrade() {
            let why = "a hub in this process has no sockets";
            return Err(Ended::Final(ApiError::method_not_allowed(why).into()));
        }
        let path = format!("{}{ENDPOINTS}/connect", self.session.target.view_path());
        let mut link = match Link::open(upstream, &path).await {
            Ok(link) => link,
            Err(error @ Error::Api(_)) => return Err(Ended::Final(error)),
            Err(Error::Transport(why)) => return Err(Ended::Lost(why)),
        };
        let hello = Hello {
            uid: self.session.target.uid.clone(),
            identity: self.session.identity.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            features: Vec::new(),
        };
        link.send(&AgentFrame::Hello(hello)).await?;
        let welcome = async {
            loop {
                if let Some(HubFrame::Welcome(welcome)) = link.next().await? {
                    return Ok::<_, Ended>(welcome);
                }
            }
        };
        let welcome = timeout(ANSWER_WITHIN, welcome).await;
        let welcome = welcome.unwrap_or_else(|_| Err(Ended::lost("no welcome in time")))?;
        tracing::info!(session = welcome.session, "connected to the hub");
        Ok((link, welcome))
    }

    /// Holds a session to its end.
    async fn hold(
        &mut self,
        link: Link,
        welcome: &Welcome,
        reports: &mut Reports,
        stop: &CancellationToken,
    ) -> Result<(), Ended> {
        let mut held = Held {
            interval: some(welcome.heartbeat_interval.duration()),
            heard_at: Instant::now(),
            leave_at: None,
            revoked: None,
            stale: true,
            mute: false,
        };
        self.session.listener.configure(&welcome.config);
        let ended = self.talk(&mut held, link, reports, stop).await;
        judged(ended, held.revoked)
    }

    async fn talk(
        &mut self,
        held: &mut Held,
        mut link: Link,
        reports: &mut Reports,
        stop: &CancellationToken,
    ) -> Result<(), Ended> {
        let mut ping_at = Instant::now();
        loop {
            if held.stale {
                held.stale = !self.follow().await;
            }
            // Before the hub takes an agent that does not beat for one that is gone.
            let missed = if held.mute { MISSED - 1 } else { MISSED };
            let silent = held.heard_at + held.interval.saturating_mul(missed);
            let leave_at = held.leave_at.unwrap_or(silent);
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    link.leave().await;
                    return Ok(());
                }
                Ok(()) = reports.changed() => {
                    self.report(&mut link, reports).await?;
                    ping_at = Instant::now();
                }
                () = sleep_until(ping_at) => {
                    held.mute = !self.session.is_member_there().await;
                    let wait = if held.mute {
                        MEMBER_RETRY
                    } else {
                        self.ping(&mut link).await?;
                        // Early rather than late, and not all agents at once.
                        self.session.jitter.stretch(held.interval.mul_f64(0.8), 20)
                    };
                    ping_at = Instant::now() + wait;
                }
                // Before its silence is judged: it may have spoken while the member was asked.
                frame = link.next() => {
                    held.heard_at = Instant::now();
                    if let Some(frame) = frame? {
                        self.hear(held, frame);
                    }
                }
                () = sleep_until(leave_at) => {
                    link.leave().await;
                    return match held.leave_at {
                        Some(_) => Err(Ended::lost("the hub asked to connect again")),
                        // At once: that the target is gone is told at the door.
                        None if held.mute => Ok(()),
                        None => Err(Ended::lost("the hub said nothing for three intervals")),
                    };
                }
            }
        }
    }

    fn hear(&self, held: &mut Held, frame: HubFrame) {
        match frame {
            HubFrame::Config(config) => {
                if let Some(interval) = config.heartbeat_interval {
                    held.interval = some(interval.duration());
                }
                self.session.listener.configure(&config);
                held.stale = true;
            }
            HubFrame::Drain(drain) => {
                let left = self
                    .session
                    .clock
                    .now()
                    .duration_until(drain.deadline.timestamp());
                let left = Duration::try_from(left).unwrap_or_default().min(LAST_RETRY);
                // Somewhere before the deadline, not all at it.
                let half = self.session.jitter.stretch(left / 2, 100);
                held.leave_at = Some(Instant::now() + half);
            }
            HubFrame::Revoke(revoke) => {
                held.revoked = Some(revoke.reason);
                held.leave_at = Some(Instant::now() + CLOSE_WITHIN);
            }
            HubFrame::Pong(_) | HubFrame::Welcome(_) | HubFrame::Unknown => {}
        }
    }

    async fn ping(&mut self, link: &mut Link) -> Result<(), Ended> {
        self.sequence += 1;
        let ping = Ping {
            sequence: self.sequence,
            sent_at: MilliTime::new(self.session.clock.now()),
        };
        link.send(&AgentFrame::Ping(ping)).await
    }

    /// Delivers the latest report; one that no frame can hold is posted.
    async fn report(&mut self, link: &mut Link, reports: &mut Reports) -> Result<(), Ended> {
        let latest = reports.borrow_and_update().clone();
        let Some(report) = latest else { return Ok(()) };
        let mut frame = self.session.counted(&report);
        frame["type"] = "report".into();
        let text = frame.to_string();
        if text.len() <= MAX_FRAME {
            return link.send_text(text).await;
        }
        match self.beat(Some(&report)).await {
            Ok(_) => Ok(()),
            Err(error) if is_final(&error) => Err(Ended::Final(error)),
            Err(error) => Err(Ended::Lost(error.to_string())),
        }
    }

    /// Posts beats for a while.
    async fn post(&mut self, reports: &mut Reports, stop: &CancellationToken) -> Result<(), Error> {
        let until = Instant::now() + self.session.jitter.stretch(POST_FOR, 50);
        let mut undelivered = true;
        loop {
            let latest = reports.borrow_and_update().clone();
            let latest = latest.filter(|_| undelivered);
            let wait = if self.session.is_member_there().await {
                let interval = match self.beat(latest.as_deref()).await {
                    Ok(interval) => {
                        undelivered &= latest.is_none();
                        interval
                    }
                    Err(error) if is_final(&error) => return Err(error),
                    Err(error) => {
                        tracing::warn!(%error, "heartbeat not delivered");
                        Duration::from_secs(1)
                    }
                };
                self.follow().await;
                interval
            } else {
                MEMBER_RETRY
            };
            if Instant::now() >= until && self.session.upstream.can_upgrade() {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Ok(()) = reports.changed() => undelivered = true,
                () = sleep(wait) => {}
            }
        }
    }

    /// Posts one beat; returns how long to wait until the next.
    async fn beat(&mut self, report: Option<&Value>) -> Result<Duration, Error> {
        self.sequence += 1;
        let mut body = json!({
            "apiVersion": "syncer.kcp.io/v1alpha1", "kind": "SyncerHeartbeat",
            "uid": self.session.target.uid, "identity": self.session.identity,
            "sequence": self.sequence, "sentAt": millis(self.session.clock.now()),
        });
        if let Some(report) = report {
            body["report"] = self.session.counted(report);
        }
        let answer = post_path(&self.hub, &format!("{ENDPOINTS}/heartbeat"), &body).await?;
        let answer: Value = serde_json::from_slice(&answer)
            .map_err(|e| Error::Transport(format!("the heartbeat's answer is no JSON: {e}")))?;
        let next = answer["nextInterval"].as_str();
        let next = next.and_then(|text| text.parse::<tmc_api::time::Span>().ok());
        Ok(next.map_or(INTERVAL, |span| span.duration()))
    }

    /// Asks what to sync and passes it on; whether that went well.
    async fn follow(&self) -> bool {
        match timeout(ANSWER_WITHIN, self.resources()).await {
            Ok(Ok(resources)) => {
                self.session.listener.resources(&resources);
                true
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "no list of resources");
                false
            }
            Err(_) => false,
        }
    }

    async fn resources(&self) -> Result<Vec<GroupVersionResource>, Error> {
        let bytes = get_path(&self.hub, &format!("{ENDPOINTS}/resources")).await?;
        let list: Value = serde_json::from_slice(&bytes)
            .map_err(|e| Error::Transport(format!("the resource list is no JSON: {e}")))?;
        Ok(accepted(&list))
    }
}

/// What a session that is held remembers.
struct Held {
    interval: Duration,
    heard_at: Instant,
    /// When to connect again, if the hub asked for it.
    leave_at: Option<Instant>,
    /// Why the hub wants no more of the agent, if it said so.
    revoked: Option<String>,
    /// The list of resources is to be asked for.
    stale: bool,
    /// The member did not answer when it was last asked: nothing is to be said.
    mute: bool,
}

/// What the end of a session means, after a revocation if there was one.
fn judged(ended: Result<(), Ended>, revoked: Option<String>) -> Result<(), Ended> {
    match (ended, revoked) {
        // The close code says it better, if it came and says so.
        (Err(Ended::Lost(_)), Some(reason)) => Err(Ended::Final(
            ApiError::new(Reason::Unauthorized, reason).into(),
        )),
        (ended, _) => ended,
    }
}

/// An interval that is none is the default.
fn some(interval: Duration) -> Duration {
    if interval.is_zero() {
        INTERVAL
    } else {
        interval
    }
}

/// Errors after which an agent has no business any more.
fn is_final(error: &Error) -> bool {
    matches!(error.code(), Some(401 | 403 | 404 | 409))
}

pub(crate) fn millis(time: Timestamp) -> String {
    MilliTime::new(time).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use http::{Request, Response};
    use kube::client::Body;
    use parking_lot::Mutex;
    use tmc_apimachinery::ClusterName;
    use tower::BoxError;

    use super::*;

    /// What becomes of requests to the member.
    #[derive(Clone, Copy, Debug)]
    enum Member {
        Answers(u16),
        RefusesConnections,
        SwallowsThem,
    }

    struct Nobody;

    impl Listener for Nobody {
        fn resources(&self, _: &[GroupVersionResource]) {}
        fn configure(&self, _: &SessionConfig) {}
        fn syncs(&self) -> Vec<GroupVersionResource> {
            Vec::new()
        }
        fn synced(&self) -> Option<SyncedReport> {
            None
        }
    }

    /// A hub in the same process, and the beats that it has taken.
    fn hub() -> (Connection, Arc<AtomicU32>) {
        let beats = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&beats);
        let service = tower::service_fn(move |request: Request<Body>| {
            if request.uri().path().ends_with("/heartbeat") {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            let answer = json!({"nextInterval": "10s", "items": []}).to_string();
            async move { Ok::<_, BoxError>(Response::new(Body::from(answer.into_bytes()))) }
        });
        (Connection::in_process(service), beats)
    }

    fn member(state: Arc<Mutex<Member>>) -> Connection {
        Connection::in_process(tower::service_fn(move |_: Request<Body>| {
            let state = *state.lock();
            async move {
                match state {
                    Member::Answers(code) => {
                        let answer = Response::builder().status(code);
                        Ok::<_, BoxError>(answer.body(Body::from(b"{}".to_vec()))?)
                    }
                    Member::RefusesConnections => Err("connection refused".into()),
                    Member::SwallowsThem => std::future::pending().await,
                }
            }
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_beats_while_its_member_answers_and_at_once_when_it_does_again() {
        let (upstream, beats) = hub();
        let state = Arc::new(Mutex::new(Member::Answers(200)));
        let session = Session {
            upstream,
            downstream: member(Arc::clone(&state)),
            target: Target {
                cluster: ClusterName::new("c"),
                name: "t".into(),
                uid: "u".into(),
            },
            identity: "a".into(),
            listener: Nobody,
            clock: Clock::system(),
            jitter: Jitter::seeded(1),
            report_every: Duration::from_secs(60),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let running = tokio::spawn(async move { session.run(&stopped).await });
        let heard_in = |seconds| {
            let beats = &beats;
            async move {
                let before = beats.load(Ordering::Relaxed);
                sleep(Duration::from_secs(seconds)).await;
                beats.load(Ordering::Relaxed) - before
            }
        };
        assert!(heard_in(60).await >= 5, "it beats");
        for silent in [
            Member::RefusesConnections,
            Member::SwallowsThem,
            Member::Answers(503),
        ] {
            *state.lock() = silent;
            assert_eq!(heard_in(60).await, 0, "{silent:?}");
            *state.lock() = Member::Answers(200);
            assert!(heard_in(7).await >= 1, "back from {silent:?}");
        }
        // Whoever refuses is there.
        for answer in [401, 403, 429] {
            *state.lock() = Member::Answers(answer);
            assert!(heard_in(60).await >= 5, "{answer}");
        }
        stop.cancel();
        running.await.unwrap().unwrap();
    }

    #[test]
    fn a_lost_session_is_opened_again_unless_the_hub_revoked_it() {
        let lost = || Err(Ended::lost("why"));
        assert!(matches!(judged(lost(), None), Err(Ended::Lost(_))));
        match judged(lost(), Some("enough".into())) {
            Err(Ended::Final(error)) => assert_eq!(error.code(), Some(401)),
            other => panic!("{other:?}"),
        }
        let gone = Err(Ended::Final(ApiError::new(Reason::NotFound, "gone").into()));
        match judged(gone, Some("enough".into())) {
            Err(Ended::Final(error)) => assert_eq!(error.code(), Some(404)),
            other => panic!("{other:?}"),
        }
        assert!(judged(Ok(()), None).is_ok());
    }
}
