//! Probes against members that answer, misbehave, or must not be reached.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::CertifiedKey;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tmc_runtime::{Credential, Endpoint};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::connector::{NoSimulatedMembers, Outbound, OwnListeners};

/// A member that answers each path by a function.
fn member(answer: fn(&str) -> (u16, Value)) -> Connection {
    Connection::in_process(tower::service_fn(
        move |request: Request<Body>| async move {
            let (code, body) = answer(request.uri().path());
            let body = Body::from(body.to_string().into_bytes());
            Ok::<_, io::Error>(http::Response::builder().status(code).body(body).unwrap())
        },
    ))
}

fn synced() -> Vec<GroupVersionResource> {
    [("apps", "deployments"), ("", "services"), ("batch", "jobs")]
        .map(|(group, resource)| GroupVersionResource::new(group, "v1", resource))
        .to_vec()
}

fn cluster(path: &str) -> (u16, Value) {
    let group = |name: &str| json!({"name": name, "versions": [{"version": "v1"}], "preferredVersion": {"version": "v1"}});
    let resources = |names: &[&str]| {
        let list: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
        json!({"resources": list})
    };
    let body = match path {
        "/version" => json!({"gitVersion": "v1.36.0\n<b>"}),
        "/api" => json!({"versions": ["v1"]}),
        "/apis" => {
            json!({"groups": [group("storage.k8s.io"), group("apps"), group("Bad/Name"), group("apps")]})
        }
        "/api/v1" => resources(&["services", "services/status", "pods"]),
        "/apis/apps/v1" => resources(&["deployments", "deployments/scale"]),
        _ => return (404, json!({})),
    };
    (200, body)
}

#[tokio::test]
async fn a_member_is_asked_for_its_version_and_what_it_serves_of_the_synced_groups() {
    let found = probe(&member(cluster), Some(&synced())).await.unwrap();
    assert_eq!(found.version, "v1.36.0<b>");
    let served = found.served.unwrap().unwrap();
    let view: Vec<_> = served
        .groups
        .iter()
        .map(|g| (&*g.name, g.resources.join(",")))
        .collect();
    assert_eq!(
        view,
        [
            ("", "pods,services".to_owned()),
            ("apps", "deployments".to_owned()),
            ("storage.k8s.io", String::new()),
        ]
    );
    assert!(!served.truncated);
    assert_eq!(
        features(&served.groups),
        [
            "DaemonSets",
            "Deployments",
            "StatefulSets",
            "StorageClasses"
        ]
    );
    let short = probe(&member(cluster), None).await.unwrap();
    assert_eq!(short.served, None);
}

#[tokio::test]
async fn more_groups_than_are_kept_are_cut_but_never_a_synced_one() {
    fn many(path: &str) -> (u16, Value) {
        let groups: Vec<_> = (0..500)
            .map(|n| json!({"name": format!("g{n:04}"), "versions": [{"version": "v1"}]}))
            .chain([json!({"name": "zz", "versions": [{"version": "v1"}]})])
            .collect();
        match path {
            "/version" => (200, json!({"gitVersion": "v1"})),
            "/api" => (200, json!({"versions": ["v1"]})),
            "/apis" => (200, json!({"groups": groups})),
            _ => (200, json!({"resources": [{"name": "things"}]})),
        }
    }
    let synced = [GroupVersionResource::new("zz", "v1", "things")];
    let found = probe(&member(many), Some(&synced)).await.unwrap();
    let served = found.served.unwrap().unwrap();
    assert!(served.truncated);
    assert!(served.groups.len() <= MAX_GROUPS + 1);
    assert_eq!(served.groups.last().unwrap().resources, ["things"]);
}

/// What is kept of a member that answers discovery so, and how long that is as JSON.
async fn kept(
    answer: fn(&str) -> (u16, Value),
    synced: &[GroupVersionResource],
) -> (Served, usize) {
    let found = probe(&member(answer), Some(synced)).await.unwrap();
    let capabilities =
        crate::cluster::reconcile::capabilities(&found, jiff::Timestamp::UNIX_EPOCH).unwrap();
    let bytes = serde_json::to_vec(&capabilities).unwrap().len();
    (found.served.unwrap().unwrap(), bytes)
}

/// 253 bytes that begin so.
fn long(start: &str, number: usize) -> String {
    format!("{:x<253}", format!("{start}{number}-"))
}

#[tokio::test]
async fn core_is_kept_in_few_versions_however_many_there_are() {
    fn endless(path: &str) -> (u16, Value) {
        let versions: Vec<_> = (1..=100_000).map(|n| format!("v{n}")).collect();
        let resources: Vec<_> = (0..600).map(|n| json!({"name": long("r", n)})).collect();
        match path {
            "/version" => (200, json!({"gitVersion": "v1"})),
            "/api" => (200, json!({"versions": versions})),
            "/apis" => (200, json!({"groups": []})),
            _ => (200, json!({"resources": resources})),
        }
    }
    let (served, bytes) = kept(endless, &synced()).await;
    assert_eq!(served.groups[0].versions.len(), 20);
    assert_eq!(served.groups[0].resources.len(), MAX_RESOURCES);
    assert!(bytes <= 256 << 10, "{bytes}");
}

#[tokio::test]
async fn what_is_synced_fits_beside_any_number_of_long_names() {
    fn large(path: &str) -> (u16, Value) {
        let versions: Vec<_> = (0..30).map(|n| json!({"version": long("v", n)})).collect();
        let synced = ["apps", "batch", "policy"].map(str::to_owned);
        let names = (0..200).map(|n| long("g", n)).chain(synced);
        let groups: Vec<_> = names
            .map(|name| {
                let first = [json!({"version": "v1"})];
                let versions: Vec<_> = first.iter().chain(&versions).collect();
                json!({"name": name, "versions": versions})
            })
            .collect();
        let resources = (0..600).map(|n| json!({"name": long("r", n)}));
        let resources: Vec<_> = [json!({"name": "jobs"})]
            .into_iter()
            .chain(resources)
            .collect();
        match path {
            "/version" => (200, json!({"gitVersion": "v1"})),
            "/api" => (200, json!({"versions": ["v1"]})),
            "/apis" => (200, json!({"groups": groups})),
            _ => (200, json!({"resources": resources})),
        }
    }
    let synced =
        ["apps", "batch", "policy"].map(|group| GroupVersionResource::new(group, "v1", "jobs"));
    let (served, bytes) = kept(large, &synced).await;
    assert!(served.truncated && bytes <= 256 << 10, "{bytes}");
    for gvr in &synced {
        let group = served.groups.iter().find(|group| group.name == gvr.group);
        let group = group.expect("kept");
        assert!(group.versions.contains(&gvr.version), "{}", gvr.group);
        assert!(group.resources.contains(&gvr.resource), "{}", gvr.group);
    }
    assert!(served.groups.is_sorted_by_key(|group| &group.name));
}

#[tokio::test]
async fn each_answer_has_its_class_and_none_of_its_text() {
    for (answer, reason) in [
        (
            (|_| (401, json!({"message": "hunter2"}))) as fn(&str) -> _,
            "Unauthorized",
        ),
        (|_| (403, json!("hunter2")), "Unauthorized"),
        (|_| (302, json!("hunter2")), "ConnectionFailed"),
        (|_| (500, json!("hunter2")), "ConnectionFailed"),
    ] {
        let failure = probe(&member(answer), None).await.unwrap_err();
        assert_eq!(failure.reason, reason);
        assert!(!failure.message.contains("hunter2"), "{}", failure.message);
    }
    let page = Connection::in_process(tower::service_fn(|_: Request<Body>| async {
        Ok::<_, io::Error>(http::Response::new(Body::from(b"<html>".to_vec())))
    }));
    assert_eq!(
        probe(&page, None).await.unwrap_err().reason,
        "ConnectionFailed"
    );
}

#[tokio::test]
async fn a_failed_discovery_leaves_the_version() {
    let connection = member(|path| {
        if path == "/apis" {
            (503, json!({}))
        } else {
            cluster(path)
        }
    });
    let found = probe(&connection, Some(&synced())).await.unwrap();
    assert_eq!(
        found.served.unwrap().unwrap_err().message,
        "the member answered with status code 503"
    );
}

#[tokio::test(start_paused = true)]
async fn a_member_that_hangs_is_given_up_on() {
    let hanging = Connection::in_process(tower::service_fn(|_: Request<Body>| {
        std::future::pending::<Result<http::Response<Body>, io::Error>>()
    }));
    let failure = probe(&hanging, None).await.unwrap_err();
    assert_eq!(failure.reason, "ConnectionTimeout");
}

async fn tls_server(made: &CertifiedKey<rcgen::KeyPair>) -> SocketAddr {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // The handshake is all that is tested.
            let _ = acceptor.accept(stream).await;
        }
    });
    address
}

async fn failure(server: &str, ca: String, own: &str) -> Failure {
    let endpoint = Endpoint::new(server, ca.into_bytes(), Credential::Anonymous).unwrap();
    let own = OwnListeners::new(vec![own.parse().unwrap()]);
    let outbound = Outbound::new(own, Arc::new(NoSimulatedMembers));
    probe(&outbound.connect(&endpoint).unwrap(), None)
        .await
        .unwrap_err()
}

#[tokio::test]
async fn what_goes_wrong_on_the_way_has_its_class() {
    let make = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (server, stranger) = (make("127.0.0.1"), make("127.0.0.1"));
    let address = tls_server(&server).await;
    let url = format!("https://{address}");
    let strange = failure(&url, stranger.cert.pem(), "127.0.0.1:1").await;
    assert_eq!(strange.reason, "TLSError", "{}", strange.message);
    assert!(
        strange.message.contains("certificate authority"),
        "{}",
        strange.message
    );
    let other = make("other.example");
    let elsewhere = tls_server(&other).await;
    let url_of_other = format!("https://{elsewhere}");
    let named = failure(&url_of_other, other.cert.pem(), "127.0.0.1:1").await;
    assert_eq!(named.reason, "TLSError");
    assert!(named.message.contains("another host"), "{}", named.message);
    let refused = failure(&url, server.cert.pem(), "192.0.2.1:1").await;
    assert_eq!(refused.reason, "EndpointForbidden");
    assert!(refused.message.contains("loopback"), "{}", refused.message);
    let itself = failure(&url, server.cert.pem(), &address.to_string()).await;
    assert_eq!(itself.reason, "EndpointForbidden");
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let closed = failure(&format!("https://{free}"), server.cert.pem(), "127.0.0.1:1").await;
    assert_eq!(
        (closed.reason, &*closed.message),
        ("ConnectionFailed", "the connection was refused")
    );
}
