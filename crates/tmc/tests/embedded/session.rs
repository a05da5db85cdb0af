//! `connect` sessions over a real TLS listener.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use futures::{SinkExt, StreamExt};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, header};
use serde_json::{Value, json};
use tmc::kubeconfig::{Identity, hub_cluster, render};
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_hub::environment::SystemEnvironment;
use tmc_runtime::client::{DeleteParams, Error, PatchKind};
use tmc_runtime::connection::Upgraded;
use tmc_runtime::{Clock, Connection, Fence, Jitter, ResourceClient, Switch};
use tmc_server::tls::{CertificateAuthority, PemPair, Validity};
use tmc_sim::{Behaviour, Member};
use tmc_syncer::{Agent, AgentOptions, REPORT_EVERY, Target};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;

use crate::support::{World, bind_args, copies, deployment, eventually};
use crate::tokens::{account, bearer, may_sync};
use crate::view::agent as allow_agent;

const SUBPROTOCOL: &str = "v1.syncer.kcp.io";
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A SyncTarget of mode External, and a user with a client certificate who may sync it.
pub(crate) struct External {
    pub(crate) world: World,
    pub(crate) target: Target,
    connection: Connection,
}

impl External {
    pub(crate) async fn start() -> Self {
        let world = World::start().await;
        allow_agent(&world).await;
        let object = json!({
            "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
            "metadata": {"name": "far", "labels": {"location": "far"}}, "spec": {},
        });
        let made = targets(&world).create("", &object).await.unwrap();
        let target = Target {
            cluster: ClusterName::new(meta(&made).cluster()),
            name: "far".into(),
            uid: meta(&made).uid().to_owned(),
        };
        let connection = over_tls(&world, "agent");
        let external = Self {
            world,
            target,
            connection,
        };
        // The view knows the target as soon as its informer does.
        eventually("the view is there", || async {
            external.dial(HeaderMap::new(), "").await.is_ok()
        })
        .await;
        external
    }

    fn path(&self) -> String {
        format!(
            "{}/apis/syncer.kcp.io/v1alpha1/connect",
            self.target.view_path()
        )
    }

    /// The ConfigMaps of the target's view, as its agent reads them.
    pub(crate) fn configmaps(&self) -> ResourceClient {
        let view = format!("{}/clusters/*", self.target.view_path());
        let gvr = GroupVersionResource::new("", "v1", "configmaps");
        ResourceClient::new(self.connection.client(&view), gvr)
    }

    /// Opens a socket; `extra` replaces or adds headers.
    async fn dial(
        &self,
        extra: HeaderMap,
        query: &str,
    ) -> Result<WebSocketStream<Upgraded>, Error> {
        let key = generate_key();
        let mut headers = HeaderMap::from_iter([
            (header::CONNECTION, HeaderValue::from_static("Upgrade")),
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (
                header::SEC_WEBSOCKET_VERSION,
                HeaderValue::from_static("13"),
            ),
            (
                header::SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_static(SUBPROTOCOL),
            ),
            (
                header::SEC_WEBSOCKET_KEY,
                HeaderValue::try_from(key).unwrap(),
            ),
        ]);
        headers.extend(extra);
        let path = format!("{}{query}", self.path());
        let (_, io) = self.connection.upgrade(&path, headers).await?;
        Ok(WebSocketStream::from_raw_socket(io, Role::Client, None).await)
    }

    /// A session that has said hello and was welcomed.
    async fn session(&self, identity: &str) -> Socket {
        let mut socket = Socket(self.dial(HeaderMap::new(), "").await.unwrap());
        socket.say(&self.hello(identity)).await;
        let welcome = socket.frame("welcome").await;
        assert_eq!(welcome["heartbeatInterval"], "10s");
        socket
    }

    fn hello(&self, identity: &str) -> Value {
        json!({"type": "hello", "uid": self.target.uid, "identity": identity, "version": "0"})
    }

    async fn condition(&self, kind: &str) -> String {
        let target = targets(&self.world).get("", "far").await.unwrap();
        let conditions = target["status"]["conditions"].as_array().cloned();
        let found = conditions.into_iter().flatten().find(|c| c["type"] == kind);
        found.map_or_else(String::new, |c| c["status"].as_str().unwrap().to_owned())
    }

    /// A Location with the target.
    pub(crate) async fn location(&self) {
        let location = json!({
            "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Location",
            "metadata": {"name": "far", "labels": {"location": "far"}},
            "spec": {"resource": {"group": "workload.kcp.io", "version": "v1alpha1",
                "resource": "synctargets"},
                "instanceSelector": {"matchLabels": {"location": "far"}}},
        });
        let compute = self.world.context("root:compute");
        let locations = compute.resource("scheduling.kcp.io", "v1alpha1", "locations");
        tmc::context::ensure(&locations, "", &location)
            .await
            .unwrap();
    }

    pub(crate) async fn take_permission(&self) {
        let compute = self.world.context("root:compute");
        let bindings = compute.resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings");
        bindings
            .delete("", "agent", &DeleteParams::default())
            .await
            .unwrap();
    }

    pub(crate) fn options(&self, member: &Member) -> AgentOptions {
        AgentOptions {
            target: self.target.clone(),
            upstream: self.connection.clone(),
            downstream: member.connection().clone(),
            identity: "far-1".into(),
            pod_security: "baseline".into(),
            workers: 2,
            namespace_delay: Duration::from_secs(1),
            report_every: REPORT_EVERY,
            clock: Clock::system(),
            jitter: Jitter::random(),
        }
    }
}

pub(crate) fn targets(world: &World) -> ResourceClient {
    let compute = world.context("root:compute");
    compute.resource("workload.kcp.io", "v1alpha1", "synctargets")
}

/// The hub over its listener, as a user with a client certificate that can be replaced.
fn over_tls(world: &World, user: &str) -> Connection {
    let read = |file: &str| std::fs::read_to_string(world.directory.path().join(file)).unwrap();
    let pair = PemPair {
        certificate: read("ca.crt"),
        key: read("ca.key"),
    };
    let authority = CertificateAuthority::from_pem(&pair).unwrap();
    let ttl = Validity::starting_now(Duration::from_secs(3600));
    let own = authority.issue_client(user, &[], ttl).unwrap();
    let base64 = base64::engine::general_purpose::STANDARD;
    let identity = Identity {
        user: user.into(),
        certificate: base64.encode(own.certificate),
        key: base64.encode(own.key),
    };
    let cluster = hub_cluster(world.embedded.url(), "root:compute", &pair.certificate);
    let text = render(&cluster, "root:compute", &identity).unwrap();
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&text).unwrap();
    Switch::new(Connection::from_kubeconfig(&kubeconfig, None).unwrap()).1
}

struct Socket(WebSocketStream<Upgraded>);

impl Socket {
    async fn say(&mut self, frame: &Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn ping(&mut self, sequence: u64) {
        let sent = jiff::Timestamp::now().to_string();
        self.say(&json!({"type": "ping", "sequence": sequence, "sentAt": sent}))
            .await;
    }

    /// The next frame of a type; others are passed over.
    async fn frame(&mut self, kind: &str) -> Value {
        let wanted = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) => {
                        let frame: Value = serde_json::from_str(text.as_str()).unwrap();
                        if frame["type"] == kind {
                            return frame;
                        }
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => panic!("no {kind}: {other:?}"),
                }
            }
        };
        timeout(PATIENCE, wanted).await.unwrap()
    }

    /// The close code, after whatever frames come before it.
    async fn closed(&mut self) -> u16 {
        self.last_words().await.1
    }

    /// The types of the frames before the close code, and that.
    async fn last_words(&mut self) -> (Vec<String>, u16) {
        let mut before = Vec::new();
        let closed = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Close(frame))) => return (before, frame.unwrap().code.into()),
                    Some(Ok(Message::Text(text))) => {
                        let frame: Value = serde_json::from_str(text.as_str()).unwrap();
                        before.push(frame["type"].as_str().unwrap().to_owned());
                    }
                    Some(Ok(_)) => {}
                    other => panic!("no close frame: {other:?}"),
                }
            }
        };
        timeout(PATIENCE, closed).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_a_heartbeat_and_hears_of_new_settings() {
    let external = External::start().await;
    let mut socket = external.session("a").await;
    socket.ping(1).await;
    assert_eq!(socket.frame("pong").await["sequence"], 1);
    eventually("the target is heard of", || async {
        external.condition("HeartbeatHealthy").await == "True"
    })
    .await;
    socket.say(&json!({"type": "dance"})).await;
    let settings = json!({"spec": {"podSecurity": "restricted",
        "syncerConfig": {"heartbeatInterval": "7s"}}});
    targets(&external.world)
        .patch("", "far", "", PatchKind::Merge, &settings)
        .await
        .unwrap();
    let config = socket.frame("config").await;
    assert_eq!(config["podSecurity"], "restricted");
    assert_eq!(config["heartbeatInterval"], "7s");
    // A counter that does not rise is a replay.
    socket.ping(1).await;
    assert_eq!(socket.closed().await, 1008);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_session_of_a_replica_replaces_the_older_and_no_other() {
    let external = External::start().await;
    let (mut first, mut other) = (external.session("a").await, external.session("b").await);
    let mut second = external.session("a").await;
    assert_eq!(first.closed().await, 4409);
    for (socket, sequence) in [(&mut other, 1), (&mut second, 1)] {
        socket.ping(sequence).await;
        assert_eq!(socket.frame("pong").await["sequence"], sequence);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_its_target_and_none_opens_for_another_uid() {
    let external = External::start().await;
    let mut socket = external.session("a").await;
    let mut stale = Socket(external.dial(HeaderMap::new(), "").await.unwrap());
    let mut hello = external.hello("a");
    hello["uid"] = "another".into();
    stale.say(&hello).await;
    assert_eq!(stale.closed().await, 4404);
    targets(&external.world)
        .delete("", "far", &DeleteParams::default())
        .await
        .unwrap();
    assert!(
        socket.frame("revoke").await["reason"]
            .as_str()
            .unwrap()
            .contains("gone")
    );
    assert_eq!(socket.closed().await, 4404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_sync_any_more_is_sent_away() {
    let external = External::start().await;
    let mut socket = external.session("a").await;
    external.take_permission().await;
    assert_eq!(socket.closed().await, 4401);
    let refused = external.dial(HeaderMap::new(), "").await.unwrap_err();
    assert_eq!(refused.code(), Some(403));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_opens_behind_a_fence_that_holds() {
    let mut external = External::start().await;
    let fence = Fence::of_a_single_replica();
    external.connection = external.connection.fenced(&fence);
    let mut socket = external.session("a").await;
    socket.ping(1).await;
    assert_eq!(socket.frame("pong").await["sequence"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_its_credential_and_says_so_without_revoking_the_agent() {
    let mut external = External::start().await;
    let admin = external.world.context("root:compute").connection;
    let compute = format!("/clusters/{}", external.target.cluster);
    let token = account(&admin, &compute, "syncer", may_sync()).await;
    external.connection = bearer(&external.world, &token);
    eventually("the account is let in", || async {
        external.dial(HeaderMap::new(), "").await.is_ok()
    })
    .await;
    let mut socket = external.session("a").await;
    let gvr = GroupVersionResource::new("", "v1", "serviceaccounts");
    ResourceClient::new(admin.client(&compute), gvr)
        .delete("default", "syncer", &DeleteParams::default())
        .await
        .unwrap();
    // An agent that has a new credential by now comes again with it.
    assert_eq!(socket.last_words().await, (vec![], 4401));
    let refused = external.dial(HeaderMap::new(), "").await.unwrap_err();
    assert_eq!(refused.code(), Some(401), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_a_token_in_the_query_and_another_protocol_are_refused() {
    let external = External::start().await;
    let with = |name: HeaderName, value: &'static str| {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    };
    for (headers, query, code) in [
        (with(header::ORIGIN, "https://evil.example"), "", 403),
        (HeaderMap::new(), "?token=secret", 400),
        (
            with(header::SEC_WEBSOCKET_PROTOCOL, "v9.syncer.kcp.io"),
            "",
            400,
        ),
        (with(header::UPGRADE, "h2c"), "", 400),
    ] {
        let refused = external.dial(headers, query).await.unwrap_err();
        assert_eq!(refused.code(), Some(code), "{refused}");
    }
    let stranger = External {
        connection: over_tls(&external.world, "eve"),
        ..external
    };
    let refused = stranger.dial(HeaderMap::new(), "").await.unwrap_err();
    assert_eq!(refused.code(), Some(403), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversized_frame_a_flood_and_a_binary_frame_end_the_session() {
    let external = External::start().await;
    let mut large = external.session("large").await;
    let filler = "x".repeat(70 * 1024);
    large
        .say(&json!({"type": "report", "filler": filler}))
        .await;
    assert_eq!(large.closed().await, 1009);
    let mut fast = external.session("fast").await;
    for _ in 0..200 {
        // The hub may have closed already.
        if fast.0.send(Message::text(r#"{"type":"x"}"#)).await.is_err() {
            break;
        }
    }
    assert_eq!(fast.closed().await, 4429);
    let mut binary = external.session("binary").await;
    binary.0.send(Message::binary(vec![0_u8; 4])).await.unwrap();
    assert_eq!(binary.closed().await, 1003);
    let mut silent = Socket(external.dial(HeaderMap::new(), "").await.unwrap());
    silent.ping(1).await;
    assert_eq!(silent.closed().await, 1008, "a ping before the hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_stops_asks_its_agents_to_connect_again() {
    let external = External::start().await;
    let mut socket = external.session("a").await;
    let stopping = tokio::spawn(external.world.embedded.stop());
    socket.frame("drain").await;
    assert_eq!(socket.closed().await, 1001);
    timeout(PATIENCE, stopping).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_works_over_a_session_until_its_permission_is_taken() {
    let external = External::start().await;
    let behaviour = Behaviour {
        ready_after: Duration::from_millis(20),
        ..Behaviour::default()
    };
    let environment = Arc::new(SystemEnvironment);
    let member = Member::start(environment, behaviour).await.unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(Agent::new(external.options(&member)).run(stop.clone()));
    eventually("the target is ready", || async {
        external.condition("Ready").await == "True"
    })
    .await;
    external.location().await;
    let shop = external.world.bound_workspace("shop", "far").await;
    assert_eq!(bind_args("far").location_selectors, ["location=far"]);
    let deployments = shop.resource("apps", "v1", "deployments");
    deployments
        .create("default", &deployment("web", 1))
        .await
        .unwrap();
    eventually("its status is back", || async {
        let web = deployments.get("default", "web").await.unwrap();
        web["status"]["readyReplicas"] == 1
    })
    .await;
    external.take_permission().await;
    let error = timeout(PATIENCE, running)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert!(matches!(error.code(), Some(401 | 403)), "{error}");
    assert!(error.to_string().contains("may not sync"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_says_what_its_agent_keeps_in_the_member_and_when_it_last_wrote_there() {
    let external = External::start().await;
    let environment = Arc::new(SystemEnvironment);
    let member = Member::start(environment, Behaviour::default())
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let options = AgentOptions {
        report_every: Duration::from_millis(50),
        ..external.options(&member)
    };
    let running = tokio::spawn(Agent::new(options).run(stop.clone()));
    external.location().await;
    let shop = external.world.bound_workspace("shop", "far").await;
    let before = jiff::Timestamp::now();
    let deployments = shop.resource("apps", "v1", "deployments");
    deployments
        .create("default", &deployment("web", 1))
        .await
        .unwrap();
    let below = member.resource("apps", "v1", "deployments");
    eventually("the Deployment arrives", || async {
        !copies(&below).await.is_empty()
    })
    .await;
    // It is written with the next change of the status: each edit of the target is one.
    let edits = std::cell::Cell::new(0);
    eventually("the target says so", || async {
        edits.set(edits.get() + 1);
        let interval = format!("{}s", 10 + edits.get() % 2);
        let edit = json!({"spec": {"syncerConfig": {"heartbeatInterval": interval}}});
        let targets = targets(&external.world);
        targets
            .patch("", "far", "", PatchKind::Merge, &edit)
            .await
            .unwrap();
        let target = targets.get("", "far").await.unwrap();
        let syncer = &target["status"]["syncerStatus"];
        let time = syncer["lastSyncTime"].as_str();
        let time = time.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        // Statuses have whole seconds.
        syncer["syncedResources"].as_i64() >= Some(1)
            && time.is_some_and(|at| at.as_second() >= before.as_second())
    })
    .await;
    stop.cancel();
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_stops_takes_its_leave() {
    let external = External::start().await;
    let environment = Arc::new(SystemEnvironment);
    let member = Member::start(environment, Behaviour::default())
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(Agent::new(external.options(&member)).run(stop.clone()));
    eventually("the agent is heard of", || async {
        external.condition("HeartbeatHealthy").await == "True"
    })
    .await;
    stop.cancel();
    timeout(Duration::from_secs(5), running)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

/// A connection that can be cut.
fn cuttable(connection: &Connection, cut: Arc<AtomicBool>) -> Connection {
    let direct = connection.base_client();
    Connection::in_process(tower::service_fn(move |request| {
        let (direct, cut) = (direct.clone(), cut.load(Ordering::Relaxed));
        async move {
            if cut {
                return Err("connection refused".into());
            }
            direct.send(request).await.map_err(tower::BoxError::from)
        }
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_without_its_member_is_not_heard_until_the_member_is_back() {
    let external = External::start().await;
    let interval = json!({"spec": {"syncerConfig": {"heartbeatInterval": "1s"}}});
    targets(&external.world)
        .patch("", "far", "", PatchKind::Merge, &interval)
        .await
        .unwrap();
    let environment = Arc::new(SystemEnvironment);
    let member = Member::start(environment, Behaviour::default())
        .await
        .unwrap();
    let cut = Arc::new(AtomicBool::new(false));
    let options = AgentOptions {
        downstream: cuttable(member.connection(), Arc::clone(&cut)),
        ..external.options(&member)
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(Agent::new(options).run(stop.clone()));
    for (lost, heard) in [(false, "True"), (true, "False"), (false, "True")] {
        cut.store(lost, Ordering::Relaxed);
        eventually("the heartbeat follows the member", || async {
            external.condition("HeartbeatHealthy").await == heard
        })
        .await;
    }
    stop.cancel();
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
}
