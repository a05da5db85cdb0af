//! temporary
#![allow(clippy::unwrap_used, dead_code)]
#[path = "it/fake.rs"] mod fake;
#[path = "it/harness.rs"] mod harness;
use std::time::Duration;
use base64::Engine;
use tmc_server::tls::*;
#[tokio::test]
async fn serve() {
    let day = Validity::starting_now(Duration::from_secs(86400));
    let ca = CertificateAuthority::generate("ca", day).unwrap();
    let pair = ca.issue_server(&["localhost".into(), "127.0.0.1".into()], day).unwrap();
    let tls = server_config(&pair, Some(ca.certificate_pem())).unwrap();
    let l = tokio::net::TcpListener::bind("127.0.0.1:16443").await.unwrap();
    let admin = ca.issue_client("admin", &["system:masters"], day).unwrap();
    let b = |s: &str| base64::engine::general_purpose::STANDARD.encode(s);
    std::fs::write("/tmp/tmckc.yaml", format!("apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u, namespace: ns}}}}]\nclusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:16443/clusters/a', certificate-authority-data: {}}}}}]\nusers: [{{name: u, user: {{client-certificate-data: {}, client-key-data: {}}}}}]\n", b(ca.certificate_pem()), b(&admin.certificate), b(&admin.key))).unwrap();
    let hub = harness::fixture();
    let stop = tokio_util::sync::CancellationToken::new();
    let s2 = stop.clone();
    tokio::spawn(async move { tokio::time::sleep(Duration::from_secs(90)).await; s2.cancel(); });
    hub.server.serve(l, Some(tls), stop).await.unwrap();
}
