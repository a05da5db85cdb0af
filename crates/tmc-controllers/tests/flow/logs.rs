//! No secret is in the log, at any level.

use std::cell::RefCell;
use std::io;
use std::sync::Once;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::agents::{register_with, registration_secret};
use crate::world::{World, kubeconfig_secret, ready};
use crate::{CLUSTERS, SECRETS, TARGETS};

thread_local! {
    /// What was logged on this thread: a test with virtual time has one, and all its tasks are there.
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

/// Everything that our crates log from now on is kept. One subscriber for all tests: with one of a
/// thread's own, what other threads come by first would not be asked for here any more.
fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("tmc=trace"))
            .with_ansi(false)
            .with_writer(Log)
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

fn captured() -> String {
    LOG.with_borrow(|log| String::from_utf8_lossy(log).into_owned())
}

/// A kubeconfig Secret with a client certificate; and the key as PEM.
fn certificate_secret(secret: &str, host: &str) -> (Value, String) {
    let own = rcgen::generate_simple_self_signed(vec!["admin".into()]).unwrap();
    let key = own.signing_key.serialize_pem();
    let mut secret = kubeconfig_secret(secret, host, "none");
    let stored = secret["data"]["kubeconfig"].as_str().unwrap();
    let mut config: Value = serde_json::from_slice(&STANDARD.decode(stored).unwrap()).unwrap();
    config["users"][0]["user"] = json!({
        "client-certificate-data": STANDARD.encode(own.cert.pem()),
        "client-key-data": STANDARD.encode(&key),
    });
    secret["data"]["kubeconfig"] = STANDARD.encode(config.to_string()).into();
    (secret, key)
}

/// What shows that a private key was logged: as text, as base64 of it, as a list of its bytes.
fn marks_of_key(pem: &str) -> Vec<String> {
    let line = pem.lines().nth(1).unwrap();
    let bytes = format!("{:?}", line.as_bytes());
    vec![
        line.to_owned(),
        STANDARD.encode(pem)[..40].to_owned(),
        bytes.trim_matches(['[', ']']).to_owned(),
    ]
}

/// The claims of a token: the one part that it shares with no other.
fn claims(token: &str) -> String {
    token.split('.').nth(1).unwrap().to_owned()
}

fn token_of(secret: &Value) -> String {
    let stored = secret["data"]["kubeconfig"].as_str().unwrap();
    let config: Value = serde_json::from_slice(&STANDARD.decode(stored).unwrap()).unwrap();
    let token = config["users"][0]["user"]["token"].as_str().unwrap();
    token.to_owned()
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_logged_when_all_goes_well_nor_when_it_does_not() {
    capture();
    let world = World::start().await;
    let hub = &world.hub;
    let (east, north) = (world.members.of("east"), world.members.of("north"));
    east.trust_all_registrations();
    let by_token = registration_secret(&east, 3600);
    let (by_certificate, key) = certificate_secret("north-kubeconfig", "north");
    let registered = token_of(&by_token);
    register_with(&world, by_token);
    hub.create("compute", SECRETS, by_certificate);
    hub.create(
        "compute",
        CLUSTERS,
        json!({
            "apiVersion": "workload.kcp.io/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "north", "namespace": "default"},
            "spec": {"kubeconfigSecretRef": {"name": "north-kubeconfig", "key": "kubeconfig"}},
        }),
    );
    hub.until("two ready Clusters", |hub| {
        hub.all("compute", CLUSTERS).iter().all(ready)
    })
    .await;
    let targets = hub.all("compute", TARGETS);
    let mut names = targets
        .iter()
        .map(|t| t["metadata"]["name"].as_str().unwrap());
    let target = names.find(|name| name.starts_with("east-")).unwrap();
    let mode = json!({"spec": {"syncerConfig": {"mode": "Deployment"}}});
    hub.patch("compute", TARGETS, target, mode);
    hub.until("a token of the hub", |hub| hub.issued() > 0)
        .await;
    // Every token is renewed once; then none can be, and at last nobody answers.
    tokio::time::sleep(Duration::from_secs(52 * 60)).await;
    world.members.make_read_only("east");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    world.members.break_down("north");
    world.members.silence("east", true);
    tokio::time::sleep(Duration::from_secs(600)).await;

    let log = captured();
    for told in ["tmc_controllers", "tmc_runtime", "token was not renewed"] {
        assert!(log.contains(told), "{told} is not in the log: {log}");
    }
    let mut secrets = marks_of_key(&key);
    secrets.push(claims(&registered));
    for issuer in [hub, &east, &north] {
        let tokens = issuer.tokens();
        assert!(!tokens.is_empty(), "each issued some");
        secrets.extend(tokens.iter().map(|token| claims(token)));
    }
    for secret in &secrets {
        assert!(!log.contains(secret), "{secret} is in the log: {log}");
    }
    world.stop().await;
}
