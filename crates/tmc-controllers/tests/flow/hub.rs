//! A hub small enough to read: objects in a map, list, watch, create, merge patch, apply, replace,
//! delete with finalizers, tokens of accounts, under `/clusters/<name>` and `/clusters/*`. Every kind
//! is accepted; permissions are a closure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use jiff::{SignedDuration, Timestamp};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::patch::merge_patch;
use tmc_apimachinery::{ApiError, GroupResource, Reason};
use tmc_controllers::clock::Clock;
use tmc_runtime::{Connection, Hub};
use tokio::sync::watch;

use crate::faults::Faults;

type Answer = Response<UnsyncBoxBody<Bytes, std::convert::Infallible>>;
/// Resource, cluster, namespace, name.
type Key = (String, String, String, String);

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Value>,
    /// Every change: version, resource, type, object.
    log: Vec<(u64, String, &'static str, Value)>,
    writes: Vec<String>,
    granted: Vec<(String, String)>,
    /// Tokens that were issued: token, namespace, account, end.
    tokens: Vec<(String, String, String, Timestamp)>,
    clock: Option<Clock>,
    /// Start of the tokens that are issued.
    prefix: &'static str,
    /// For how many seconds the tokens that are issued say that they have been valid.
    token_age: i64,
    /// Whether it takes server-side apply.
    applies: bool,
    /// The resource of which watches tell nothing for now.
    withheld: Option<&'static str>,
}

#[derive(Clone)]
pub(crate) struct FakeHub {
    pub(crate) faults: Arc<Faults>,
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
}

/// Versions of objects since some time.
pub(crate) struct Changes {
    from: usize,
    seen: Vec<Value>,
}

impl Changes {
    /// Takes in what happened to a resource.
    pub(crate) fn retain_new(&mut self, hub: &FakeHub, resource: &str) {
        let state = hub.state.lock();
        let news = state.log[self.from..].iter().filter(|e| e.1 == resource);
        self.seen.extend(news.map(|e| e.3.clone()));
        self.from = state.log.len();
    }

    pub(crate) fn seen(&self) -> &[Value] {
        &self.seen
    }
}

struct Target {
    resource: String,
    cluster: String,
    namespace: String,
    name: String,
    subresource: String,
    query: HashMap<String, String>,
}

fn parse(uri: &http::Uri) -> Target {
    let mut parts: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    assert_eq!(parts.remove(0), "clusters", "{uri}");
    let cluster = parts.remove(0).to_owned();
    let group = if parts.remove(0) == "apis" {
        parts.remove(0).to_owned()
    } else {
        String::new()
    };
    parts.remove(0);
    let mut namespace = String::new();
    if parts[0] == "namespaces" && parts.len() > 2 {
        namespace = parts[1].to_owned();
        parts.drain(..2);
    }
    let text = |n: usize| parts.get(n).map(|t| (*t).to_owned()).unwrap_or_default();
    let pairs = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='));
    Target {
        resource: format!("{}/{group}", parts[0]),
        cluster,
        namespace,
        name: text(1),
        subresource: text(2),
        query: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
    }
}

impl FakeHub {
    pub(crate) fn new() -> Self {
        Self {
            faults: Arc::default(),
            state: Arc::default(),
            changed: Arc::new(watch::Sender::new(0)),
        }
    }

    pub(crate) fn hub(&self) -> Hub {
        let hub = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let hub = hub.clone();
            async move { Ok::<_, std::convert::Infallible>(hub.serve(request).await) }
        });
        Hub {
            connection: Connection::in_process(service),
            workspaces: true,
        }
    }

    /// Has watches of a resource tell nothing, until it is `None`.
    pub(crate) fn withhold(&self, resource: Option<&'static str>) {
        self.state.lock().withheld = resource;
        self.changed.send_modify(|version| *version += 1);
    }

    /// Tells the time, for tokens.
    pub(crate) fn set_clock(&self, clock: &Clock) {
        self.state.lock().clock = Some(clock.clone());
    }

    /// Whose token this is, while it lives and its account exists.
    pub(crate) fn account_of(&self, token: &str) -> Option<(String, String)> {
        let state = self.state.lock();
        let now = state.clock.as_ref().map(Clock::now)?;
        let found = state.tokens.iter().find(|t| t.0 == token && t.3 > now)?;
        let exists = state
            .objects
            .keys()
            .any(|key| key.0 == "serviceaccounts/" && key.2 == found.1 && key.3 == found.2);
        exists.then(|| (found.1.clone(), found.2.clone()))
    }

    /// Takes server-side apply, as members do and the embedded hub does not.
    pub(crate) fn take_apply(&self) {
        self.state.lock().applies = true;
    }

    /// Takes tokens of registrations, too, that it did not issue.
    pub(crate) fn trust_all_registrations(&self) {
        self.state.lock().prefix = "right";
    }

    /// Issues tokens from now on that are due for renewal already, but not more than a hundred.
    pub(crate) fn issue_old_tokens(&self) {
        self.state.lock().token_age = 100_000_000;
    }

    /// Where the log of changes stands.
    pub(crate) fn changes(&self) -> Changes {
        Changes {
            from: self.state.lock().log.len(),
            seen: Vec::new(),
        }
    }

    /// How many tokens were issued.
    pub(crate) fn issued(&self) -> usize {
        self.state.lock().tokens.len()
    }

    /// The tokens that were issued.
    pub(crate) fn tokens(&self) -> Vec<String> {
        let state = self.state.lock();
        state.tokens.iter().map(|t| t.0.clone()).collect()
    }

    /// Everything that is stored and everything that was written, as text.
    pub(crate) fn dump(&self) -> String {
        let state = self.state.lock();
        let objects = state.objects.values().map(Value::to_string);
        objects.collect::<Vec<_>>().join("\n")
    }

    /// Lets a workspace use the Locations of another.
    pub(crate) fn grant(&self, user: &str, provider: &str) {
        self.state
            .lock()
            .granted
            .push((format!("system:kcp:workspace:{user}"), provider.to_owned()));
    }

    /// Writes that changed something, as `METHOD resource cluster/namespace/name subresource`.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.state.lock().writes.clone()
    }

    pub(crate) fn create(&self, cluster: &str, resource: &str, object: Value) -> Value {
        self.store_new(
            &target(cluster, resource, meta(&object).namespace(), ""),
            object,
        )
        .unwrap()
    }

    /// Merge-patches as a user would.
    pub(crate) fn patch(&self, cluster: &str, resource: &str, name: &str, patch: Value) {
        let (namespace, name) = name.rsplit_once('/').unwrap_or(("", name));
        self.apply(&target(cluster, resource, namespace, name), "", &patch)
            .unwrap();
    }

    /// Replaces the members of a status that are given, as a target's view would.
    pub(crate) fn patch_status(&self, cluster: &str, resource: &str, name: &str, status: &Value) {
        let (namespace, name) = name.rsplit_once('/').unwrap_or(("", name));
        let patch = json!({"status": status});
        self.apply(
            &target(cluster, resource, namespace, name),
            "status",
            &patch,
        )
        .unwrap();
    }

    pub(crate) fn delete(&self, cluster: &str, resource: &str, name: &str) {
        let (namespace, name) = name.rsplit_once('/').unwrap_or(("", name));
        self.remove(&target(cluster, resource, namespace, name))
            .unwrap();
    }

    pub(crate) fn get(&self, cluster: &str, resource: &str, name: &str) -> Option<Value> {
        let (namespace, name) = name.rsplit_once('/').unwrap_or(("", name));
        self.state
            .lock()
            .objects
            .get(&target(cluster, resource, namespace, name).key())
            .cloned()
    }

    pub(crate) fn all(&self, cluster: &str, resource: &str) -> Vec<Value> {
        let state = self.state.lock();
        let of = state
            .objects
            .iter()
            .filter(|(key, _)| key.0 == resource && key.1 == cluster);
        of.map(|(_, object)| object.clone()).collect()
    }

    /// Waits until a condition holds; time passes while nobody has anything to do.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            while !holds(self) {
                tokio::select! {
                    _ = changed.changed() => {}
                    () = tokio::time::sleep(std::time::Duration::from_millis(100)) => {}
                }
            }
        };
        if tokio::time::timeout(std::time::Duration::from_secs(120), waiting)
            .await
            .is_err()
        {
            let objects: Vec<_> = self
                .state
                .lock()
                .objects
                .values()
                .map(Value::to_string)
                .collect();
            panic!("never: {what}\n{}", objects.join("\n"));
        }
    }

    async fn serve(&self, request: Request<Body>) -> Answer {
        let target = parse(request.uri());
        let method = request.method().clone();
        let about = (&*target.resource, &*target.name, &*target.subresource);
        if let Some(code) = self.faults.meet(&method, about).await {
            let body = json!({"kind": "Status", "code": code}).to_string();
            let body = Full::new(Bytes::from(body)).boxed_unsync();
            return Response::builder().status(code).body(body).unwrap();
        }
        let kind = request.headers().get(http::header::CONTENT_TYPE).cloned();
        let applies = kind.is_some_and(|kind| kind == "application/apply-patch+yaml");
        let bytes = request.into_body().collect_bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let result = match method {
            Method::GET if target.query.contains_key("watch") => return self.watch(&target),
            Method::GET if target.name.is_empty() => Ok(self.list(&target)),
            Method::GET => self.read(&target),
            Method::POST if target.resource.starts_with("subjectaccessreviews") => {
                Ok(self.review(&target, body))
            }
            Method::POST if target.subresource == "token" => self.token(&target, &body),
            Method::POST => self.store_new(&target, body),
            Method::PATCH if applies && !self.state.lock().applies => {
                Err(ApiError::new(Reason::UnsupportedMediaType, "no apply here"))
            }
            Method::PATCH if applies && self.read(&target).is_err() => {
                self.store_new(&target, body)
            }
            Method::PUT => self.replace(&target, body),
            Method::PATCH => self.apply(&target, &target.subresource, &body),
            Method::DELETE => self.remove(&target),
            other => panic!("{other}"),
        };
        let (code, value) = match result {
            Ok(value) => (200, value),
            Err(error) => (error.code, error.to_status()),
        };
        let body = Full::new(Bytes::from(value.to_string())).boxed_unsync();
        Response::builder().status(code).body(body).unwrap()
    }

    fn review(&self, target: &Target, mut review: Value) -> Value {
        let user = review["spec"]["user"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let granted = self
            .state
            .lock()
            .granted
            .contains(&(user, target.cluster.clone()));
        review["status"]["allowed"] = granted.into();
        review
    }

    fn token(&self, target: &Target, body: &Value) -> Result<Value, ApiError> {
        let account = self.read(target)?;
        let mut state = self.state.lock();
        let now = state.clock.as_ref().map(Clock::now).unwrap();
        let seconds = body["spec"]["expirationSeconds"].as_i64().unwrap();
        let expires = now + SignedDuration::from_secs(seconds);
        if state.token_age > 0 && state.tokens.len() > 100 {
            return Err(ApiError::new(Reason::TooManyRequests, "enough"));
        }
        let claims = json!({
            "sub": format!("system:serviceaccount:{}:{}", target.namespace, target.name),
            "iat": now.as_second() - state.token_age, "exp": expires.as_second(), "jti": state.tokens.len(),
            "kubernetes.io": {"serviceaccount": {"uid": meta(&account).uid()}},
        });
        let registration = target.namespace == tmc_api::agent::registration::NAMESPACE;
        let start = if registration { state.prefix } else { "e30" };
        let token = format!(
            "{start}.{}.c2ln",
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let (namespace, name) = (target.namespace.clone(), target.name.clone());
        state.tokens.push((token.clone(), namespace, name, expires));
        Ok(json!({"status": {"token": token, "expirationTimestamp": expires.to_string()}}))
    }

    fn replace(&self, target: &Target, mut new: Value) -> Result<Value, ApiError> {
        let mut state = self.state.lock();
        let key = target.key();
        let old = state
            .objects
            .get(&key)
            .cloned()
            .ok_or_else(|| target.not_found())?;
        if meta(&old).resource_version() != meta(&new).resource_version() {
            return Err(ApiError::new(Reason::Conflict, "stale"));
        }
        for field in ["uid", "creationTimestamp", "generation"] {
            new["metadata"][field] = old["metadata"][field].clone();
        }
        state
            .writes
            .push(format!("PUT {} {}/{}/{}", key.0, key.1, key.2, key.3));
        self.commit(&mut state, key, "MODIFIED", &mut new);
        Ok(new)
    }

    fn list(&self, target: &Target) -> Value {
        let selector = target.query.get("labelSelector").map(|text| decoded(text));
        let state = self.state.lock();
        let items: Vec<&Value> = state
            .objects
            .iter()
            .filter(|(key, _)| {
                key.0 == target.resource && (target.cluster == "*" || target.cluster == key.1)
            })
            .map(|(_, object)| object)
            .filter(|object| selector.as_ref().is_none_or(|s| selects(s, object)))
            .collect();
        json!({"kind": "List", "items": items, "metadata": {"resourceVersion": state.log.len().to_string()}})
    }

    fn watch(&self, target: &Target) -> Answer {
        let resource = target.resource.clone();
        let from: usize = target.query["resourceVersion"].parse().unwrap();
        let stream = futures::stream::unfold(
            (self.clone(), self.changed.subscribe(), from),
            move |(hub, mut changed, mut at)| {
                let resource = resource.clone();
                async move {
                    loop {
                        let line = {
                            let state = hub.state.lock();
                            let told = state.withheld != Some(&resource);
                            let news = state.log.iter().skip(at);
                            let next = news.filter(|_| told).find(|entry| entry.1 == resource);
                            next.map(|(version, _, kind, object)| {
                                at = usize::try_from(*version).unwrap();
                                format!("{}\n", json!({"type": kind, "object": object}))
                            })
                        };
                        if let Some(line) = line {
                            let frame = Ok(Frame::data(Bytes::from(line)));
                            return Some((frame, (hub, changed, at)));
                        }
                        changed.changed().await.ok()?;
                    }
                }
            },
        );
        Response::new(StreamBody::new(stream).boxed_unsync())
    }

    fn read(&self, target: &Target) -> Result<Value, ApiError> {
        self.state
            .lock()
            .objects
            .get(&target.key())
            .cloned()
            .ok_or_else(|| target.not_found())
    }

    fn store_new(&self, target: &Target, mut object: Value) -> Result<Value, ApiError> {
        let mut state = self.state.lock();
        let mut key = target.key();
        key.3 = meta(&object).name().to_owned();
        if state.objects.contains_key(&key) {
            return Err(ApiError::already_exists(
                &GroupResource::new("", &key.0),
                &key.3,
            ));
        }
        let version = state.log.len() + 1;
        let metadata = &mut object["metadata"];
        metadata["uid"] = format!("uid-{version}").into();
        metadata["generation"] = 1.into();
        metadata["creationTimestamp"] = "2030-01-01T00:00:00Z".into();
        metadata["annotations"]["kcp.io/cluster"] = key.1.clone().into();
        if !key.2.is_empty() {
            metadata["namespace"] = key.2.clone().into();
        }
        self.commit(&mut state, key, "ADDED", &mut object);
        Ok(object)
    }

    fn apply(&self, target: &Target, subresource: &str, patch: &Value) -> Result<Value, ApiError> {
        let mut state = self.state.lock();
        let key = target.key();
        let old = state
            .objects
            .get(&key)
            .cloned()
            .ok_or_else(|| target.not_found())?;
        let mut new = old.clone();
        merge_patch(&mut new, patch)?;
        let (before, after) = (meta(&old), meta(&new));
        if (before.uid(), before.resource_version()) != (after.uid(), after.resource_version()) {
            return Err(ApiError::new(Reason::Conflict, "stale"));
        }
        if subresource == "status" {
            let status = new["status"].take();
            new = old.clone();
            new["status"] = status;
        } else if old.get("status") != new.get("status") {
            panic!("spec and status in one write: {patch}");
        } else if old["spec"] != new["spec"] {
            new["metadata"]["generation"] = (before.generation() + 1).into();
        }
        if new == old {
            return Ok(old);
        }
        state.writes.push(format!(
            "PATCH {} {}/{}/{} {subresource}",
            key.0, key.1, key.2, key.3
        ));
        let done =
            !meta(&new).deletion_timestamp().is_empty() && meta(&new).finalizers().is_empty();
        self.commit(
            &mut state,
            key,
            if done { "DELETED" } else { "MODIFIED" },
            &mut new,
        );
        Ok(new)
    }

    fn remove(&self, target: &Target) -> Result<Value, ApiError> {
        let mut state = self.state.lock();
        let key = target.key();
        let mut object = state
            .objects
            .get(&key)
            .cloned()
            .ok_or_else(|| target.not_found())?;
        state
            .writes
            .push(format!("DELETE {} {}/{}/{}", key.0, key.1, key.2, key.3));
        if meta(&object).finalizers().is_empty() {
            self.commit(&mut state, key, "DELETED", &mut object);
        } else if meta(&object).deletion_timestamp().is_empty() {
            object["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
            self.commit(&mut state, key, "MODIFIED", &mut object);
        }
        Ok(object)
    }

    fn commit(&self, state: &mut State, key: Key, kind: &'static str, object: &mut Value) {
        let version = u64::try_from(state.log.len()).unwrap() + 1;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        state
            .log
            .push((version, key.0.clone(), kind, object.clone()));
        if kind == "DELETED" {
            state.objects.remove(&key);
        } else {
            state.objects.insert(key, object.clone());
        }
        self.changed.send_replace(version);
    }
}

fn decoded(text: &str) -> String {
    let text = text.replace("%3D", "=").replace("%2C", ",");
    let text = text.replace("%21", "!");
    text.replace("%2F", "/")
}

/// `a=b,c!=d,e`
fn selects(selector: &str, object: &Value) -> bool {
    let label = |key: &str| meta(object).label(key);
    selector.split(',').all(|term| match term.split_once('=') {
        None => label(term).is_some(),
        Some((key, value)) => match key.strip_suffix('!') {
            Some(key) => label(key) != Some(value),
            None => label(key) == Some(value),
        },
    })
}

fn target(cluster: &str, resource: &str, namespace: &str, name: &str) -> Target {
    Target {
        resource: resource.to_owned(),
        cluster: cluster.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: String::new(),
        query: HashMap::new(),
    }
}

impl Target {
    fn key(&self) -> Key {
        (
            self.resource.clone(),
            self.cluster.clone(),
            self.namespace.clone(),
            self.name.clone(),
        )
    }

    fn not_found(&self) -> ApiError {
        ApiError::not_found(&GroupResource::new("", &self.resource), &self.name)
    }
}
