//! The transport against a TLS server of this process, and kubeconfigs as tables.

use std::net::SocketAddr;

use base64::Engine as _;
use hyper_util::server::conn::auto;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::Connection;

/// Sends every host to one address, and remembers what it was asked for.
struct FixedDialer(SocketAddr, Mutex<Vec<(String, u16)>>);

#[async_trait]
impl Dialer for FixedDialer {
    async fn dial(&self, host: &str, port: u16) -> std::io::Result<TcpStream> {
        self.1.lock().push((host.to_owned(), port));
        TcpStream::connect(self.0).await
    }
}

/// A server that answers with the version, path and authorization it saw. Gives its address and the
/// PEM of its certificate.
async fn server() -> (SocketAddr, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(vec!["member.example".into()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let service = hyper::service::service_fn(
                    |request: Request<hyper::body::Incoming>| async move {
                        let token = request
                            .headers()
                            .get(AUTHORIZATION)
                            .map(|v| v.to_str().unwrap());
                        let text = json!({
                            "version": format!("{:?}", request.version()),
                            "path": request.uri().path(),
                            "token": token,
                        });
                        Ok::<_, std::convert::Infallible>(Response::new(text.to_string()))
                    },
                );
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (address, made.cert.pem().into_bytes())
}

async fn ask(connection: &Connection) -> Result<Value, Error> {
    let body = crate::client::get_path(&connection.base_client(), "/version").await?;
    Ok(serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn requests_go_over_http2_through_the_dialer_with_base_path_and_token() {
    let (address, ca) = server().await;
    let dialer = Arc::new(FixedDialer(address, Mutex::default()));
    let credential = Credential::Token("s3cret\n".into());
    let endpoint =
        Endpoint::new("https://member.example:8443/clusters/root/", ca, credential).unwrap();
    assert_eq!((endpoint.host(), endpoint.port()), ("member.example", 8443));
    let connection = Connection::https(&endpoint, dialer.clone()).unwrap();
    let expected =
        json!({"version": "HTTP/2.0", "path": "/clusters/root/version", "token": "Bearer s3cret"});
    assert_eq!(ask(&connection).await.unwrap(), expected);
    assert_eq!(ask(&connection).await.unwrap(), expected);
    assert_eq!(
        *dialer.1.lock(),
        [("member.example".to_owned(), 8443)],
        "one connection for both"
    );
}

#[tokio::test]
async fn a_server_with_another_certificate_is_refused() {
    let (address, _) = server().await;
    let stranger = rcgen::generate_simple_self_signed(vec!["member.example".into()]).unwrap();
    let ca = stranger.cert.pem().into_bytes();
    let endpoint = Endpoint::new("https://member.example", ca, Credential::Anonymous).unwrap();
    let dialer = Arc::new(FixedDialer(address, Mutex::default()));
    let error = ask(&Connection::https(&endpoint, dialer).unwrap())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn another_server_name_can_be_expected() {
    let (address, ca) = server().await;
    let endpoint = Endpoint::new("https://10.1.2.3", ca, Credential::Anonymous)
        .unwrap()
        .with_server_name("member.example");
    let dialer = Arc::new(FixedDialer(address, Mutex::default()));
    assert!(
        ask(&Connection::https(&endpoint, dialer.clone()).unwrap())
            .await
            .is_ok()
    );
    assert_eq!(*dialer.1.lock(), [("10.1.2.3".to_owned(), 443)]);
}

#[tokio::test]
async fn a_token_file_is_read_and_a_missing_one_named() {
    let (address, ca) = server().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let endpoint = Endpoint::new(
        "https://member.example",
        ca,
        Credential::TokenFile(path.clone()),
    )
    .unwrap();
    let dialer = Arc::new(FixedDialer(address, Mutex::default()));
    let connection = Connection::https(&endpoint, dialer).unwrap();
    let error = ask(&connection).await.unwrap_err();
    assert!(error.to_string().contains("tokenFile"), "{error}");
    std::fs::write(&path, "from-file\n").unwrap();
    assert_eq!(ask(&connection).await.unwrap()["token"], "Bearer from-file");
}

#[test]
fn a_server_must_be_a_plain_https_url() {
    for (server, why) in [
        ("http://h", "is not an https URL"),
        ("h:443", "is not an https URL"),
        ("not a url", "is not a URL"),
        ("https://h?x=1", "has a query"),
        ("https://h#x", "has a fragment"),
        ("https://user:pass@h", "has user information"),
    ] {
        let error = Endpoint::new(server, Vec::new(), Credential::Anonymous)
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{server}: {error}");
        assert!(!error.contains("pass@"), "{error}");
    }
    let endpoint = Endpoint::new("https://[::1]:6443", Vec::new(), Credential::Anonymous).unwrap();
    assert_eq!(
        (endpoint.host(), endpoint.port(), endpoint.base_path()),
        ("::1", 6443, "")
    );
}

fn kubeconfig(change: impl FnOnce(&mut Value)) -> Kubeconfig {
    let pem = rcgen::generate_simple_self_signed(vec!["h".into()])
        .unwrap()
        .cert
        .pem();
    let mut document = json!({
        "current-context": "main",
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {
            "server": "https://h/clusters/root",
            "certificate-authority-data": base64::engine::general_purpose::STANDARD.encode(pem),
        }}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    });
    change(&mut document);
    serde_json::from_value(document).unwrap()
}

#[tokio::test]
async fn a_kubeconfig_is_read_and_its_path_kept_apart() {
    let connection = Connection::from_kubeconfig(&kubeconfig(|_| {}), None).unwrap();
    assert_eq!(connection.base_path(), "/clusters/root");
}

#[test]
fn what_a_kubeconfig_lacks_or_may_not_have_is_named() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 13] = [
        (|k| k["current-context"] = Value::Null, "no current-context"),
        (
            |k| k["current-context"] = json!("other"),
            "no context \"other\"",
        ),
        (
            |k| k["contexts"][0]["context"]["cluster"] = json!("x"),
            "no cluster \"x\"",
        ),
        (
            |k| k["contexts"][0]["context"]["user"] = json!("x"),
            "no user \"x\"",
        ),
        (
            |k| k["clusters"][0]["cluster"]["proxy-url"] = json!("http://p"),
            "proxy-url",
        ),
        (
            |k| k["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = json!(true),
            "insecure-skip-tls-verify",
        ),
        (
            |k| k["clusters"][0]["cluster"]["certificate-authority-data"] = json!("!"),
            "certificate-authority-data is not base64",
        ),
        (
            |k| k["clusters"][0]["cluster"]["certificate-authority-data"] = json!(""),
            "certificate-authority-data is missing",
        ),
        (
            |k| k["clusters"][0]["cluster"]["server"] = json!("http://h"),
            "is not an https URL",
        ),
        (
            |k| {
                k["users"][0]["user"] =
                    json!({"exec": {"command": "x", "provideClusterInfo": false}})
            },
            "exec is not supported",
        ),
        (
            |k| k["users"][0]["user"] = json!({"username": "a", "password": "b"}),
            "username and password",
        ),
        (
            |k| k["users"][0]["user"] = json!({"client-certificate-data": "YQ=="}),
            "client-key-data is missing",
        ),
        (
            |k| k["users"][0]["user"] = json!({"client-certificate": "/no/such/file"}),
            "client-certificate \"/no/such/file\" cannot be read",
        ),
    ];
    for (change, expected) in cases {
        let error = Endpoint::from_kubeconfig(&kubeconfig(change), None)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn a_certificate_wins_over_nothing_and_must_fit_its_key() {
    let (one, two) = (
        rcgen::KeyPair::generate().unwrap(),
        rcgen::KeyPair::generate().unwrap(),
    );
    let params = rcgen::CertificateParams::new(vec!["h".into()]).unwrap();
    let cert = params.self_signed(&one).unwrap();
    for (key, fits) in [(one.serialize_pem(), true), (two.serialize_pem(), false)] {
        let credential = Credential::Certificate {
            chain: cert.pem().into_bytes(),
            key: key.into_bytes(),
        };
        assert_eq!(format!("{credential:?}"), "Certificate");
        let endpoint = Endpoint::new("https://h", cert.pem().into_bytes(), credential).unwrap();
        assert_eq!(tls_config(&endpoint).is_ok(), fits);
    }
}

#[test]
fn roots_must_be_certificates() {
    for ca in [
        "",
        "no pem",
        "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n",
    ] {
        let endpoint = Endpoint::new("https://h", ca.into(), Credential::Anonymous).unwrap();
        let error = tls_config(&endpoint).unwrap_err().to_string();
        assert!(error.starts_with("certificate-authority-data"), "{error}");
    }
}
