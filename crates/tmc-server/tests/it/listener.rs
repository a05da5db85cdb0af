use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rstest::rstest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tmc_server::Config;
use tmc_server::tls::{CertificateAuthority, PemPair, Validity, server_config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::{DEPLOYMENTS, Fixture, fixture, with_config};

const HOUR: Duration = Duration::from_secs(3600);

/// A server on a socket of its own.
struct Site {
    hub: Fixture,
    ca: CertificateAuthority,
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl Site {
    async fn open(hub: Fixture) -> Self {
        let ca = CertificateAuthority::generate("ca", Validity::starting_now(24 * HOUR)).unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let pair = ca
            .issue_server(&names, Validity::starting_now(HOUR))
            .unwrap();
        let tls = server_config(&pair, Some(ca.certificate_pem())).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let (server, token) = (hub.server.clone(), stop.clone());
        let task = tokio::spawn(async move { server.serve(listener, Some(tls), token).await });
        Self {
            hub,
            ca,
            address,
            stop,
            task,
        }
    }

    fn client(&self, user: &str, groups: &[&str]) -> PemPair {
        self.ca
            .issue_client(user, groups, Validity::starting_now(HOUR))
            .unwrap()
    }

    async fn tls(&self, alpn: &str, identity: Option<&PemPair>) -> std::io::Result<Tls> {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.ca.certificate_pem().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes());
                let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = TcpStream::connect(self.address).await?;
        connector
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
    }

    async fn get(
        &self,
        alpn: &str,
        identity: Option<&PemPair>,
        path: &str,
    ) -> (u16, Version, Value) {
        let response = self.ask(alpn, identity, path).await;
        let (status, version) = (response.status().as_u16(), response.version());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, version, serde_json::from_slice(&body).unwrap())
    }

    async fn ask(
        &self,
        alpn: &str,
        identity: Option<&PemPair>,
        path: &str,
    ) -> http::Response<Incoming> {
        let io = TokioIo::new(self.tls(alpn, identity).await.unwrap());
        let request = Request::get(format!("https://localhost{path}")).header("host", "localhost");
        let request = request.body(Full::new(Bytes::new())).unwrap();
        if alpn == "h2" {
            let (mut send, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                    .await
                    .unwrap();
            tokio::spawn(connection);
            return send.send_request(request).await.unwrap();
        }
        let (mut send, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        send.send_request(request).await.unwrap()
    }

    async fn close(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

type Tls = tokio_rustls::client::TlsStream<TcpStream>;

#[rstest]
#[case("http/1.1", Version::HTTP_11)]
#[case("h2", Version::HTTP_2)]
#[tokio::test]
async fn a_client_certificate_is_an_identity_in_both_protocols(
    #[case] alpn: &str,
    #[case] version: Version,
) {
    let site = Site::open(fixture()).await;
    let admin = site.client("admin", &["dev"]);
    let (code, spoken, list) = site.get(alpn, Some(&admin), DEPLOYMENTS).await;
    assert_eq!(
        (code, spoken, &list["kind"]),
        (200, version, &"DeploymentList".into())
    );
    let (code, _, refusal) = site.get(alpn, None, DEPLOYMENTS).await;
    assert_eq!(code, 403);
    assert!(
        refusal["message"]
            .as_str()
            .unwrap()
            .contains("system:anonymous")
    );
    let nobody = site.client("nobody", &[]);
    let (code, _, refusal) = site.get(alpn, Some(&nobody), DEPLOYMENTS).await;
    assert_eq!(code, 403);
    assert!(
        refusal["message"]
            .as_str()
            .unwrap()
            .contains("User \"nobody\"")
    );
    site.close().await;
}

#[tokio::test]
async fn groups_come_from_the_certificate() {
    let site = Site::open(fixture()).await;
    let master = site.client("boss", &["system:masters", "dev"]);
    let response = site.ask("h2", Some(&master), "/metrics").await;
    assert_eq!(response.status(), 200);
    site.close().await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_does_not_get_in() {
    let site = Site::open(fixture()).await;
    let other = CertificateAuthority::generate("ca", Validity::starting_now(HOUR)).unwrap();
    let forged = other
        .issue_client("admin", &[], Validity::starting_now(HOUR))
        .unwrap();
    let refused = match site.tls("http/1.1", Some(&forged)).await {
        Err(_) => true,
        // With TLS 1.3 the client learns of it at its first read.
        Ok(mut stream) => stream.read(&mut [0; 1]).await.is_err(),
    };
    assert!(refused);
    site.close().await;
}

#[tokio::test]
async fn a_server_certificate_is_no_identity() {
    let site = Site::open(fixture()).await;
    let server = site
        .ca
        .issue_server(&["admin".into()], Validity::starting_now(HOUR))
        .unwrap();
    let refused = match site.tls("http/1.1", Some(&server)).await {
        Err(_) => true,
        Ok(mut stream) => stream.read(&mut [0; 1]).await.is_err(),
    };
    assert!(refused);
    site.close().await;
}

#[tokio::test]
async fn an_identity_expires_with_its_certificate_on_an_open_connection() {
    let site = Site::open(fixture()).await;
    let brief = site
        .ca
        .issue_client("admin", &[], Validity::starting_now(Duration::from_secs(2)))
        .unwrap();
    let io = TokioIo::new(site.tls("h2", Some(&brief)).await.unwrap());
    let (mut send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut codes = Vec::new();
    while codes.last() != Some(&401) {
        let request = Request::get(format!("https://localhost{DEPLOYMENTS}"));
        let request = request.body(Full::new(Bytes::new())).unwrap();
        codes.push(send.send_request(request).await.unwrap().status().as_u16());
        tokio::task::yield_now().await;
    }
    assert_eq!(codes[0], 200);
    site.close().await;
}

#[rstest]
#[case("http/1.1")]
#[case("h2")]
#[tokio::test]
async fn a_watch_over_the_network_streams_and_ends_with_the_server(#[case] alpn: &str) {
    let config = Config {
        watch_drain: Duration::from_millis(50),
        ..Config::default()
    };
    let site = Site::open(with_config(config)).await;
    let admin = site.client("admin", &[]);
    let response = site
        .ask(alpn, Some(&admin), &format!("{DEPLOYMENTS}?watch=true"))
        .await;
    let mut body = response.into_body();
    site.hub.deploy("web").await;
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    let event: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(event["object"]["metadata"]["name"], "web");
    site.stop.cancel();
    while let Some(frame) = body.frame().await {
        assert!(frame.unwrap().into_data().unwrap().is_empty());
    }
    site.close().await;
}

#[tokio::test]
async fn many_requests_share_one_connection() {
    let site = Site::open(fixture()).await;
    site.hub.deploy("web").await;
    let io = TokioIo::new(
        site.tls("h2", Some(&site.client("admin", &[])))
            .await
            .unwrap(),
    );
    let (send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let asks = (0..50).map(|_| {
        let mut send = send.clone();
        async move {
            let request = Request::get(format!("https://localhost{DEPLOYMENTS}/web"));
            let request = request.body(Full::new(Bytes::new())).unwrap();
            send.send_request(request).await.unwrap().status().as_u16()
        }
    });
    assert_eq!(futures::future::join_all(asks).await, vec![200; 50]);
    site.close().await;
}

fn hurried() -> Config {
    let mut config = Config::default();
    config.listener.handshake_timeout = Duration::from_millis(50);
    config.listener.header_timeout = Duration::from_millis(50);
    config.listener.drain_timeout = Duration::from_millis(200);
    config
}

#[tokio::test]
async fn a_client_that_stalls_is_cut_off() {
    let site = Site::open(with_config(hurried())).await;
    // Silent before TLS.
    let mut silent = TcpStream::connect(site.address).await.unwrap();
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap_or(0), 0);
    // Silent after TLS, in either protocol.
    for alpn in ["h2", "http/1.1"] {
        let mut stream = site.tls(alpn, None).await.unwrap();
        let mut seen = Vec::new();
        let _ = stream.read_to_end(&mut seen).await;
        assert!(!seen.starts_with(b"HTTP/1.1 200"), "{alpn}");
    }
    // Half a request head.
    let mut stream = site.tls("http/1.1", None).await.unwrap();
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        .await
        .unwrap();
    let mut seen = Vec::new();
    let _ = stream.read_to_end(&mut seen).await;
    assert!(!seen.starts_with(b"HTTP/1.1 200"));
    site.close().await;
}

#[tokio::test]
async fn plain_http_to_a_tls_socket_gets_nothing() {
    let site = Site::open(fixture()).await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut seen = Vec::new();
    let _ = stream.read_to_end(&mut seen).await;
    assert!(!seen.starts_with(b"HTTP/"));
    site.close().await;
}

#[tokio::test]
async fn a_stopped_server_cuts_what_does_not_drain_and_listens_no_more() {
    let site = Site::open(with_config(hurried())).await;
    let admin = site.client("admin", &[]);
    let path = format!("{DEPLOYMENTS}/slow");
    let mut stream = site.tls("http/1.1", Some(&admin)).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // Let the request reach its handler, or there would be nothing to cut.
    while !site
        .hub
        .get_metrics()
        .await
        .contains("apiserver_current_inflight_requests 1")
    {
        tokio::task::yield_now().await;
    }
    let address = site.address;
    site.close().await;
    assert!(TcpStream::connect(address).await.is_err());
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let mut config = Config::default();
    config.listener.max_connections = 1;
    let site = Site::open(with_config(config)).await;
    let first = site.tls("http/1.1", None).await.unwrap();
    let mut second = Box::pin(site.tls("http/1.1", None));
    let early = tokio::time::timeout(Duration::from_millis(50), second.as_mut()).await;
    assert!(early.is_err(), "no handshake without a place");
    drop(first);
    second.await.unwrap();
    site.close().await;
}

#[tokio::test]
async fn a_server_without_tls_speaks_both_protocols() {
    let hub = fixture();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let (server, token) = (hub.server.clone(), stop.clone());
    let task = tokio::spawn(async move { server.serve(listener, None, token).await });
    let request = || Request::get(format!("http://{address}/livez")).header("host", "x");
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut send, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let body = Full::new(Bytes::new());
    assert_eq!(
        send.send_request(request().body(body.clone()).unwrap())
            .await
            .unwrap()
            .status(),
        200
    );
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    assert_eq!(
        send.send_request(request().body(body).unwrap())
            .await
            .unwrap()
            .status(),
        200
    );
    drop(send);
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}
