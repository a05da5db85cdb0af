//! A wire between two parts: carries requests, and does to them what the weather says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tmc_apimachinery::ApiError;
use tmc_runtime::Connection;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::chance::Chance;
use super::frames::{Cuts, Delivered, twice, watched};
use super::trace::Trace;
use super::weather::{Conditions, Weather};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// Annotation that the other writer changes.
const TOUCHED: &str = "sim.example.com/touched";
/// What the other writer may be after.
const TOUCHABLE: [&str; 7] = [
    "synctargets",
    "clusters",
    "placements",
    "locations",
    "namespaces",
    "deployments",
    "configmaps",
];

/// Sees every request before it is carried; what it says is a violation.
pub(crate) type Inspector = Arc<dyn Fn(&Call) -> Option<String> + Send + Sync>;

/// One end of it.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) name: Arc<str>,
    pub(crate) weather: Weather,
    pub(crate) chance: Chance,
    pub(crate) trace: Trace,
    /// Cancelled when the process at one end dies.
    pub(crate) dead: CancellationToken,
    pub(crate) inspector: Option<Inspector>,
    /// Whoever else writes to this server.
    pub(crate) other_writer: Option<kube::Client>,
    /// Counts what is not read: for quiet times.
    pub(crate) writes: Arc<AtomicU64>,
    /// What its watches were told last.
    pub(crate) delivered: Delivered,
    /// When the other end last took a beat.
    pub(crate) heard: Option<Heard>,
}

/// Told of every beat that was taken, whether its sender hears of that or not.
pub(crate) type Heard = Arc<dyn Fn() + Send + Sync>;

/// A request that can be sent again.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) body: Bytes,
    headers: http::HeaderMap,
}

impl Call {
    async fn read(request: Request<Body>) -> Result<Self, BoxError> {
        let (parts, body) = request.into_parts();
        Ok(Self {
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            body: body.collect_bytes().await?,
        })
    }

    fn request(&self) -> Result<Request<Body>, BoxError> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.uri.clone())
            .body(Body::from(self.body.to_vec()))?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }

    fn is_watch(&self) -> bool {
        let query = self.uri.query().unwrap_or_default();
        query.split('&').any(|pair| pair == "watch=true")
    }

    /// Whether it changes objects: reviews, tokens and beats do not.
    pub(crate) fn is_write(&self) -> bool {
        let last = self.uri.path().rsplit('/').next().unwrap_or_default();
        let answers = ["heartbeat", "token"];
        self.method != Method::GET && !answers.contains(&last) && !last.ends_with("reviews")
    }

    /// Path of the object that is written, without its subresource, if it is one that others write.
    fn touchable(&self) -> Option<String> {
        if !matches!(self.method, Method::PUT | Method::PATCH | Method::DELETE) {
            return None;
        }
        let parts: Vec<&str> = self.uri.path().split('/').collect();
        // The last one: a namespaced object's path names `namespaces` before it.
        let at = parts.iter().rposition(|part| TOUCHABLE.contains(part))?;
        let known = parts.first() == Some(&"") && parts.get(1) == Some(&"clusters");
        (known && parts.len() > at + 1).then(|| parts[..=at + 1].join("/"))
    }
}

impl Wire {
    /// A connection over it.
    pub(crate) fn over(self, direct: &Connection) -> Connection {
        let direct = direct.client("");
        Connection::in_process(tower::service_fn(move |request: Request<Body>| {
            let (wire, direct) = (self.clone(), direct.clone());
            async move { wire.send(request, direct).await }
        }))
    }

    async fn send(&self, request: Request<Body>, direct: kube::Client) -> Result<Answer, BoxError> {
        let call = Call::read(request).await?;
        tokio::select! {
            biased;
            () = self.dead.cancelled() => Err(broken("the process at the other end is gone")),
            answer = self.carry(&call, direct) => answer,
        }
    }

    async fn carry(&self, call: &Call, direct: kube::Client) -> Result<Answer, BoxError> {
        if let Some(text) = self.inspector.as_ref().and_then(|inspect| inspect(call)) {
            self.trace.violation(&text);
        }
        if call.is_write() {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
        if !self.weather.passable(&self.name).await {
            return Err(broken("no route to host"));
        }
        let conditions = self.weather.on(&self.name);
        self.hold_up(&conditions).await;
        if self.chance.happens(conditions.refused) {
            self.tell("refused", call);
            return Ok(refusal());
        }
        if self.chance.happens(conditions.lost_request) {
            self.tell("lost before it arrived", call);
            return Err(broken("connection reset"));
        }
        if call.is_write() {
            self.interfere(call, &conditions, &direct).await;
        }
        let response = direct.send(call.request()?).await?;
        if let Some(heard) = &self.heard
            && call.uri.path().ends_with("/heartbeat")
            && response.status().is_success()
        {
            heard();
        }
        if call.is_watch() && response.status().is_success() {
            return Ok(self.watch(call, response, &conditions));
        }
        self.hold_up(&conditions).await;
        let lost = self.chance.happens(conditions.lost_answer);
        let (parts, body) = response.into_parts();
        let body = body.collect_bytes().await?;
        if lost || !self.weather.passable(&self.name).await {
            self.tell("done, but its answer is lost", call);
            return Err(broken("connection reset"));
        }
        Ok(Response::from_parts(parts, full(body)))
    }

    async fn hold_up(&self, conditions: &Conditions) {
        if self.chance.happens(conditions.delayed) {
            let delay = self.chance.between(Duration::ZERO, conditions.delay);
            tokio::time::sleep(delay).await;
        }
    }

    /// Lets somebody else write first, and the same arrive again later.
    async fn interfere(&self, call: &Call, conditions: &Conditions, direct: &kube::Client) {
        if self.chance.happens(conditions.overtaken)
            && let (Some(writer), Some(path)) = (&self.other_writer, call.touchable())
        {
            self.tell("overtaken by another writer", call);
            self.touch(writer, &path).await;
        }
        if self.chance.happens(conditions.duplicated) {
            let delay = self.chance.between(Duration::ZERO, Duration::from_secs(5));
            let (wire, call, direct) = (self.clone(), call.clone(), direct.clone());
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let Ok(request) = call.request() else { return };
                if !wire.dead.is_cancelled() {
                    wire.tell("arrives again", &call);
                    // Nobody waits for this answer.
                    drop(direct.send(request).await);
                }
            });
        }
    }

    async fn touch(&self, writer: &kube::Client, path: &str) {
        let mark = self.chance.below(1_000_000).to_string();
        let patch = json!({"metadata": {"annotations": {TOUCHED: mark}}});
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/merge-patch+json")
            .body(Body::from(patch.to_string().into_bytes()));
        if let Ok(request) = request {
            // Where it fails there is one writer less.
            drop(writer.send(request).await);
        }
    }

    fn tell(&self, what: &str, call: &Call) {
        self.trace.note(|| {
            let path = call.uri.path();
            format!("{}: {} {path}: {what}", self.name, call.method)
        });
    }

    /// The stream of a watch, which may stall, repeat itself and break off.
    fn watch(&self, call: &Call, response: Response<Body>, conditions: &Conditions) -> Answer {
        let (parts, body) = response.into_parts();
        let life = conditions.watch_life.map(|longest| {
            let life = self.chance.between(Duration::from_millis(500), longest);
            Instant::now() + life
        });
        let again = self
            .delivered
            .again(&call.uri)
            .filter(|_| self.chance.happens(conditions.replayed));
        if again.is_some() {
            self.tell("begins with its last event", call);
        }
        let stream = Stream {
            wire: self.clone(),
            watched: watched(&call.uri),
            cuts: Cuts::default(),
            again,
            ends: life,
            body: Some(body),
        };
        let frames = futures::stream::unfold(stream, |mut stream| async move {
            let frame = stream.next().await?;
            Some((frame, stream))
        });
        let body = StreamBody::new(frames.fuse());
        Response::from_parts(parts, body.boxed_unsync())
    }
}

/// What comes next of a stream.
type Arrived = Option<Result<Frame<Bytes>, BoxError>>;

struct Stream {
    wire: Wire,
    /// What it is a watch of.
    watched: String,
    cuts: Cuts,
    /// An event that it begins with though it was delivered before.
    again: Option<Bytes>,
    ends: Option<Instant>,
    /// `None` once it broke off.
    body: Option<Body>,
}

impl Stream {
    async fn next(&mut self) -> Arrived {
        let body = self.body.as_mut()?;
        if let Some(again) = self.again.take() {
            return Some(Ok(Frame::data(again)));
        }
        let ends = self.ends;
        let end = async move {
            match ends {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let wire = &self.wire;
        let arrived = async {
            let frame = body.frame().await?;
            // What arrives during a cut is delivered after it, or never.
            if !wire.weather.passable(&wire.name).await {
                return Some(Err(broken("connection reset")));
            }
            if wire.chance.happens(wire.weather.on(&wire.name).stalled) {
                let stall = wire.chance.between(Duration::ZERO, Duration::from_secs(3));
                tokio::time::sleep(stall).await;
            }
            Some(frame.map_err(Into::into))
        };
        let found = tokio::select! {
            biased;
            () = wire.dead.cancelled() => Some(Err(broken("connection reset"))),
            () = end => self.wire.break_off(),
            frame = arrived => return self.delivered(frame),
        };
        self.body = None;
        found
    }

    /// What becomes of data that arrived.
    fn delivered(&mut self, frame: Arrived) -> Arrived {
        let Some(Ok(frame)) = frame else {
            return frame;
        };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(other) => return Some(Ok(other)),
        };
        if !self.cuts.whole(&data) {
            return Some(Ok(Frame::data(data)));
        }
        let wire = &self.wire;
        wire.delivered.note(&self.watched, &data);
        let repeated = wire.chance.happens(wire.weather.on(&wire.name).repeated);
        let data = if repeated { twice(&data) } else { data };
        Some(Ok(Frame::data(data)))
    }
}

impl Wire {
    /// How a watch ends before its time: expired, broken, or just over.
    fn break_off(&self) -> Arrived {
        if self.chance.happens(self.weather.on(&self.name).expired) {
            let status = ApiError::expired("too old resource version").to_status();
            let line = format!("{}\n", json!({"type": "ERROR", "object": status}));
            return Some(Ok(Frame::data(Bytes::from(line))));
        }
        self.chance
            .happens(500)
            .then(|| Err(broken("connection reset")))
    }
}

fn full(body: Bytes) -> UnsyncBoxBody<Bytes, BoxError> {
    Full::new(body)
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn broken(why: &str) -> BoxError {
    why.to_owned().into()
}

fn refusal() -> Answer {
    let status: Value = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 429,
        "reason": "TooManyRequests", "message": "too many requests, please try again later",
        "details": {"retryAfterSeconds": 1},
    });
    let mut response = Response::new(full(Bytes::from(status.to_string())));
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    let json = header::HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    response
}
