//! The `connect` session of an agent (types, section 9a): its ping is the heartbeat, and the hub can
//! tell it of changes, or that it has no business any more, at once.
//!
//! A socket costs little and proves nothing by itself: it must say hello soon, keep saying
//! something, not say too much, read what it is sent, and belong to somebody who may still `sync`
//! the target. Whatever fails first ends it.

mod registry;
mod talk;

use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use jiff::Timestamp;
use tmc_api::syncer::{CloseCode, Drain, HubFrame, Pong, Revoke, SessionConfig, Welcome};
use tmc_api::time::{MilliTime, Span};
use tmc_apimachinery::user::UserInfo;
use tmc_runtime::Clock;
use tmc_server::websocket::{CapacityError, CloseFrame, Credentials, Error, Message, WebSocket};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::endpoints::{Beat, BeatSink};
use super::targets::TargetId;
use super::vigil::{Entitled, Standing};
pub use registry::Sessions;
use registry::Slot;
use talk::{Close, GOING_AWAY, Heard, INVALID, NORMAL, POLICY, TOO_LONG, Talk, UNSUPPORTED};

/// Time for the first frame.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Time for a frame to be taken by the network.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// Time for the other side's close frame. Meanwhile what it still sends is read and dropped, so that
/// it gets to see why.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// How often it is asked whether the agent may still sync the target.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// How often its certificate or token is checked again, in checks of permission.
const CREDENTIALS_EVERY: u32 = 5;
/// Refusals in a row that end a session: one may come from a hub that could not decide.
const REFUSALS: u32 = 2;
/// Intervals of silence after which an agent counts as gone.
const MISSED: u32 = 3;
/// On shutdown: how soon the agent should be elsewhere.
const DRAIN: Duration = Duration::from_secs(1);

/// What a session needs to know of its target, now.
pub(super) trait Configured: Send + Sync {
    /// The session's configuration; `None` once the target is gone or another one.
    fn config(&self, target: &TargetId) -> Option<SessionConfig>;
}

/// Interval of an agent that has none of its own.
const INTERVAL: Duration = Duration::from_secs(10);

fn interval(config: &SessionConfig) -> Duration {
    config
        .heartbeat_interval
        .map(Span::duration)
        .filter(|interval| !interval.is_zero())
        .unwrap_or(INTERVAL)
}

/// One session before its socket is open.
pub(super) struct Session {
    pub target: TargetId,
    pub user: UserInfo,
    pub credentials: Credentials,
    pub slot: Slot,
    pub beats: Arc<dyn BeatSink>,
    pub entitled: Arc<dyn Entitled>,
    pub configured: Arc<dyn Configured>,
    pub clock: Clock,
    pub stop: CancellationToken,
}

/// How a session ended: what the agent is told.
struct End {
    last_words: Option<HubFrame>,
    /// `None` if the agent is gone already.
    close: Option<Close>,
}

impl From<Close> for End {
    fn from(close: Close) -> Self {
        let final_code = [CloseCode::NotAuthorized, CloseCode::TargetGone]
            .iter()
            .any(|code| code.code() == close.code);
        let revoke = Revoke {
            reason: close.reason.clone(),
        };
        Self {
            last_words: final_code.then_some(HubFrame::Revoke(revoke)),
            close: Some(close),
        }
    }
}

impl End {
    const GONE: Self = Self {
        last_words: None,
        close: None,
    };
}

impl Session {
    /// Talks until the session ends, and says why it does.
    pub(super) async fn run(self, mut socket: WebSocket) {
        let end = match self.open(&mut socket).await {
            Ok(open) => open.hold(&mut socket).await,
            Err(end) => end,
        };
        if let Some(frame) = &end.last_words
            && send(&mut socket, frame).await.is_err()
        {
            return;
        }
        if let Some(Close { code, reason }) = end.close {
            tracing::debug!(code, reason, "a syncer's session is closed");
            let frame = CloseFrame {
                code: code.into(),
                reason: reason.into(),
            };
            let closing = async {
                socket.close(Some(frame)).await?;
                while let Some(Ok(_)) = socket.next().await {}
                if matches!(code, TOO_LONG | INVALID) {
                    discard(&mut socket).await;
                }
                Ok::<_, Error>(())
            };
            // An agent that does not answer has lost the connection or pretends to.
            let _ = timeout(CLOSE_WITHIN, closing).await;
        }
    }

    /// Waits for the hello and answers it.
    async fn open(self, socket: &mut WebSocket) -> Result<Open, End> {
        let started = Instant::now();
        let mut talk = Talk::new(&self.target.uid);
        let hello = async {
            loop {
                let text = receive(socket, &mut talk, started).await?;
                if let Some(text) = text
                    && let Heard::Hello(hello) = talk.hear(&text, self.clock.now())?
                {
                    return Ok::<_, End>(hello);
                }
            }
        };
        let hello = tokio::select! {
            () = self.stop.cancelled() => return Err(going_away(self.clock.now())),
            hello = timeout(HELLO_WITHIN, hello) => match hello {
                Ok(hello) => hello?,
                Err(_) => return Err(Close::new(POLICY, "no hello in time").into()),
            },
        };
        let config = self.configured.config(&self.target).ok_or_else(gone)?;
        self.slot.name(&hello.identity);
        self.beats.hello(&self.target, &hello.identity);
        let id = uuid::Uuid::new_v4().to_string();
        tracing::info!(
            target = %self.target.name, cluster = %self.target.cluster, session = id,
            identity = hello.identity, version = hello.version, "a syncer connected"
        );
        let welcome = HubFrame::Welcome(Welcome {
            session: id,
            heartbeat_interval: Span::from(interval(&config)),
            config: config.clone(),
        });
        send(socket, &welcome).await?;
        Ok(Open {
            session: self,
            talk,
            config,
            started,
            refusals: 0,
            checks: 0,
        })
    }
}

/// An open session.
struct Open {
    session: Session,
    talk: Talk,
    config: SessionConfig,
    started: Instant,
    /// How often in a row the agent was not entitled.
    refusals: u32,
    checks: u32,
}

impl Open {
    async fn hold(mut self, socket: &mut WebSocket) -> End {
        let signals = self.session.slot.signals.clone();
        let stop = self.session.stop.clone();
        let mut heard_at = Instant::now();
        let mut check_at = heard_at + CHECK_EVERY;
        loop {
            let idle = heard_at + interval(&self.config).saturating_mul(MISSED);
            let step = tokio::select! {
                frame = receive(socket, &mut self.talk, self.started) => match frame {
                    Ok(text) => {
                        heard_at = Instant::now();
                        match text {
                            Some(text) => self.hear(socket, &text).await,
                            None => Ok(()),
                        }
                    }
                    Err(end) => Err(end),
                },
                () = signals.replaced.cancelled() => {
                    let why = "a newer session of this replica took over";
                    Err(Close::because(CloseCode::Replaced, why).into())
                }
                () = signals.changed.notified() => self.reconfigure(socket).await,
                () = sleep_until(check_at) => {
                    check_at = Instant::now() + CHECK_EVERY;
                    self.check().await
                }
                () = sleep_until(idle) => {
                    Err(Close::new(POLICY, "nothing was heard for three heartbeat intervals").into())
                }
                () = stop.cancelled() => Err(going_away(self.session.clock.now())),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn hear(&mut self, socket: &mut WebSocket, text: &str) -> Result<(), End> {
        match self.talk.hear(text, self.session.clock.now())? {
            Heard::Nothing | Heard::Hello(_) => Ok(()),
            Heard::Bye => Err(Close::new(NORMAL, "bye").into()),
            Heard::Beat(beat) => self.beat(socket, beat).await,
        }
    }

    async fn beat(&mut self, socket: &mut WebSocket, beat: Beat) -> Result<(), End> {
        // Between a deletion and the word of it no beat must bring the target back to life.
        if self
            .session
            .configured
            .config(&self.session.target)
            .is_none()
        {
            return Err(gone());
        }
        let pong = Pong {
            sequence: beat.sequence,
            received_at: MilliTime::new(beat.received),
        };
        let taken = self.session.beats.beat(&self.session.target, beat);
        taken.map_err(|error| Close::new(POLICY, error.message))?;
        send(socket, &HubFrame::Pong(pong)).await
    }

    /// The SyncTarget changed: it may be gone, or configure its agent differently.
    async fn reconfigure(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        let target = &self.session.target;
        let config = self.session.configured.config(target).ok_or_else(gone)?;
        if config == self.config {
            return Ok(());
        }
        self.config = config;
        send(socket, &HubFrame::Config(self.config.clone())).await
    }

    /// Whether the agent may still be here.
    async fn check(&mut self) -> Result<(), End> {
        self.checks = self.checks.wrapping_add(1);
        let session = &self.session;
        if self.checks.is_multiple_of(CREDENTIALS_EVERY) {
            let user = session.credentials.user().await;
            if user.map_or(true, |user| user.name != session.user.name) {
                return Err(credential_ended());
            }
        }
        let asked = session.entitled.standing(&session.user, &session.target);
        match timeout(SEND_WITHIN, asked).await {
            Ok(Standing::Gone) => Err(gone()),
            Ok(Standing::Refused) => {
                self.refusals += 1;
                if self.refusals < REFUSALS {
                    return Ok(());
                }
                let why = format!(
                    "{} may not sync this SyncTarget any more",
                    session.user.name
                );
                Err(Close::because(CloseCode::NotAuthorized, why).into())
            }
            Ok(Standing::Entitled) => {
                self.refusals = 0;
                Ok(())
            }
            // No answer is no refusal; the next check asks again.
            Err(_) => Ok(()),
        }
    }
}

/// No revocation comes with it: agents renew their credential, and one that has a new one comes again.
/// Any other is refused then.
fn credential_ended() -> End {
    let why = "the credential is not good any more: connect again with a new one";
    End {
        last_words: None,
        close: Some(Close::because(CloseCode::NotAuthorized, why)),
    }
}

fn gone() -> End {
    let why = "the SyncTarget is gone, or another one has its name";
    Close::because(CloseCode::TargetGone, why).into()
}

fn going_away(now: Timestamp) -> End {
    let deadline = now
        .checked_add(jiff::SignedDuration::try_from(DRAIN).unwrap_or_default())
        .unwrap_or(Timestamp::MAX);
    End {
        last_words: Some(HubFrame::Drain(Drain {
            deadline: MilliTime::new(deadline),
        })),
        close: Some(Close::new(
            GOING_AWAY,
            "the hub is going away: connect again",
        )),
    }
}

/// The next message's text; `None` for one without (a ping or pong of the transport).
async fn receive(
    socket: &mut WebSocket,
    talk: &mut Talk,
    started: Instant,
) -> Result<Option<String>, End> {
    let message = match socket.next().await {
        Some(Ok(message)) => message,
        Some(Err(error)) => return Err(broken(&error)),
        None => return Err(End::GONE),
    };
    talk.count(message.len(), started.elapsed())?;
    match message {
        Message::Text(text) => Ok(Some(text.as_str().to_owned())),
        Message::Binary(_) => Err(Close::new(UNSUPPORTED, "frames must be text").into()),
        Message::Close(_) => Err(End::GONE),
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(None),
    }
}

/// Reads on where the socket reads no more: what is left unread resets the connection, and the agent
/// would not get to see why.
async fn discard(socket: &mut WebSocket) {
    let mut rest = [0; 4096];
    while matches!(socket.get_mut().read(&mut rest).await, Ok(1..)) {}
}

/// What an error of the socket means to the agent.
fn broken(error: &Error) -> End {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { max_size, .. }) => {
            Close::new(TOO_LONG, format!("a frame has at most {max_size} bytes")).into()
        }
        Error::Utf8(_) => Close::new(INVALID, "a text frame must be UTF-8").into(),
        _ => End::GONE,
    }
}

/// Sends a frame, within a time limit: who does not read is not there.
async fn send(socket: &mut WebSocket, frame: &HubFrame) -> Result<(), End> {
    let text = serde_json::to_string(frame).map_err(|_| End::GONE)?;
    match timeout(SEND_WITHIN, socket.send(Message::text(text))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(End::GONE),
    }
}
