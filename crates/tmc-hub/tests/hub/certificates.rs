use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;
use serde_json::{Value, json};
use tmc_runtime::ResourceClient;
use tmc_runtime::client::PatchKind;

use crate::support::{TestHub, start};

fn requests(hub: &TestHub, path: &str) -> ResourceClient {
    hub.admin(
        path,
        "certificates.k8s.io",
        "v1",
        "certificatesigningrequests",
    )
}

fn request(user: &str, groups: &[&str]) -> Value {
    let (pem, _) = tmc_server::tls::generate_request(user, groups).unwrap();
    json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": "r"},
        "spec": {"request": STANDARD.encode(pem), "usages": ["client auth"],
                 "signerName": "kubernetes.io/kube-apiserver-client"},
    })
}

fn approval() -> Value {
    json!({"status": {"conditions": [
        {"type": "Approved", "status": "True", "reason": "Test", "message": "test"}]}})
}

fn subject(signed: &Value) -> String {
    let pem = STANDARD
        .decode(signed["status"]["certificate"].as_str().unwrap())
        .unwrap();
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    block.parse_x509().unwrap().subject().to_string()
}

#[tokio::test]
async fn an_approved_request_is_signed_and_confined_to_its_workspace() {
    let hub = start().await;
    let a = hub.workspace("a").await;
    let client = requests(&hub, &a);
    client.create("", &request("ann", &["dev"])).await.unwrap();
    let signed = client
        .patch("", "r", "approval", PatchKind::Merge, &approval())
        .await
        .unwrap();
    let subject = subject(&signed);
    let scope = hub.hub.resolve("root:a").unwrap();
    assert!(
        subject.contains("CN=ann") && subject.contains("O=dev"),
        "{subject}"
    );
    assert!(
        subject.contains(&format!("O=system:tmc:scope:{scope}")),
        "{subject}"
    );
}

#[tokio::test]
async fn a_certificate_of_the_root_workspace_is_good_everywhere() {
    let hub = start().await;
    let client = requests(&hub, "/clusters/root");
    client.create("", &request("ann", &[])).await.unwrap();
    let signed = client
        .patch("", "r", "approval", PatchKind::Merge, &approval())
        .await
        .unwrap();
    assert!(!subject(&signed).contains("scope"));
}

#[rstest]
#[case("system:admin", &[])]
#[case("ann", &["system:masters"])]
#[tokio::test]
async fn no_name_or_group_under_system_is_issued(#[case] user: &str, #[case] groups: &[&str]) {
    let hub = start().await;
    let error = requests(&hub, "/clusters/root")
        .create("", &request(user, groups))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(422));
    assert!(error.to_string().contains("reserved"), "{error}");
}

#[tokio::test]
async fn a_request_cannot_be_changed_and_approval_needs_the_permission() {
    let hub = start().await;
    let a = hub.workspace("a").await;
    let client = requests(&hub, &a);
    client.create("", &request("ann", &[])).await.unwrap();
    let patch = json!({"spec": {"request": "eA=="}});
    let error = client
        .patch("", "r", "", PatchKind::Merge, &patch)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(422), "{error}");
    hub.grant(&a, "bob", "edit").await;
    let bob = hub.user(
        "bob",
        &a,
        "certificates.k8s.io",
        "v1",
        "certificatesigningrequests",
    );
    let error = bob
        .patch("", "r", "approval", PatchKind::Merge, &approval())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(403), "{error}");
}

#[tokio::test]
async fn approval_through_the_status_signs_nothing() {
    let hub = start().await;
    let client = requests(&hub, "/clusters/root");
    client.create("", &request("ann", &[])).await.unwrap();
    let after = client
        .patch("", "r", "status", PatchKind::Merge, &approval())
        .await
        .unwrap();
    assert_eq!(after["status"].get("certificate"), None);
    assert_eq!(after["status"].get("conditions"), None);
}
