//! Every rule of the allow-list, one row each.

use rcgen::{CertificateParams, KeyPair};
use rstest::rstest;
use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

struct Pki {
    ca: String,
    certificate: String,
    key: String,
}

/// A certificate that is valid in the years given, and its key.
fn pki(from: i32, to: i32) -> Pki {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["member".into()]).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    let pem = params.self_signed(&key).unwrap().pem();
    Pki {
        ca: STANDARD.encode(&pem),
        certificate: STANDARD.encode(&pem),
        key: STANDARD.encode(key.serialize_pem()),
    }
}

fn good() -> Value {
    let pki = pki(2020, 2040);
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "main",
        "preferences": {},
        "contexts": [
            {"name": "main", "context": {"cluster": "c", "user": "u", "namespace": "x"}},
            {"name": "other", "context": {"cluster": "c", "user": "dangerous"}},
        ],
        "clusters": [{"name": "c", "cluster": {
            "server": "https://member.example:6443", "certificate-authority-data": pki.ca,
        }}],
        "users": [
            {"name": "u", "user": {"token": "s3cret-token"}},
            {"name": "dangerous", "user": {"exec": {"command": "sh"}}},
        ],
    })
}

fn check(document: &Value) -> Result<MemberKubeconfig, Refusal> {
    read(
        document.to_string().as_bytes(),
        Allowances::default(),
        now(),
    )
}

#[test]
fn a_token_kubeconfig_passes_and_only_its_current_context_counts() {
    let read = check(&good()).unwrap();
    assert_eq!((read.kind, read.expires), (Kind::Token, None));
    assert_eq!(
        (read.endpoint.host(), read.endpoint.port()),
        ("member.example", 6443)
    );
}

#[test]
fn yaml_is_read_as_well_as_json() {
    let ca = pki(2020, 2040).ca;
    let yaml = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: m\ncontexts:\n- name: m\n  context: {{cluster: c, user: u}}\n\
         clusters:\n- name: c\n  cluster:\n    server: https://h\n    certificate-authority-data: {ca}\n\
         users:\n- name: u\n  user:\n    token: abc\n"
    );
    assert!(read(yaml.as_bytes(), Allowances::default(), now()).is_ok());
}

#[test]
fn a_certificate_kubeconfig_passes_with_its_expiry() {
    let pki = pki(2020, 2040);
    let mut document = good();
    document["users"][0]["user"] =
        json!({"client-certificate-data": pki.certificate, "client-key-data": pki.key});
    let read = check(&document).unwrap();
    assert_eq!(read.kind, Kind::ClientCertificate);
    assert_eq!(read.expires.unwrap().to_string(), "2040-01-01T00:00:00Z");
}

#[test]
fn the_expiry_of_a_jwt_is_read() {
    let jwt = |seconds: i64| {
        let claims = URL_SAFE_NO_PAD.encode(json!({"exp": seconds}).to_string());
        format!("e30.{claims}.sig")
    };
    let mut document = good();
    document["users"][0]["user"]["token"] = json!(jwt(now().as_second() + 60));
    let expected = now() + SignedDuration::from_mins(1);
    assert_eq!(check(&document).unwrap().expires, Some(expected));
    document["users"][0]["user"]["token"] = json!(jwt(now().as_second()));
    assert_eq!(check(&document).unwrap_err().class, Class::Expired);
}

const CLUSTER: &str = "/clusters/0/cluster";
const USER: &str = "/users/0/user";

#[rstest]
#[case("/current-context", json!(null), Class::Invalid, "current-context")]
#[case("/current-context", json!(""), Class::Invalid, "current-context")]
#[case("/current-context", json!("absent"), Class::Invalid, "current-context")]
#[case("/contexts", json!("text"), Class::Invalid, "current-context")]
#[case("/contexts/1/name", json!("main"), Class::Invalid, "current-context")]
#[case("/contexts/0/context", json!(null), Class::Invalid, "current-context")]
#[case("/contexts/0/context/cluster", json!(""), Class::Invalid, "context.cluster")]
#[case("/contexts/0/context/cluster", json!("absent"), Class::Invalid, "context.cluster")]
#[case("/contexts/0/context/user", json!(null), Class::Invalid, "context.user")]
#[case("/users/1/name", json!("u"), Class::Invalid, "context.user")]
fn a_reference_that_leads_nowhere_is_named(
    #[case] at: &str,
    #[case] value: Value,
    #[case] class: Class,
    #[case] field: &str,
) {
    let mut document = good();
    *document.pointer_mut(at).unwrap() = value;
    let refusal = check(&document).unwrap_err();
    assert_eq!((refusal.class, refusal.field), (class, field));
}

#[rstest]
// What may never be there.
#[case(CLUSTER, "certificate-authority", json!("/etc/ca"), Class::Forbidden)]
#[case(CLUSTER, "insecure-skip-tls-verify", json!(true), Class::Forbidden)]
#[case(CLUSTER, "proxy-url", json!("http://p"), Class::Forbidden)]
#[case(CLUSTER, "tls-server-name", json!("x"), Class::Forbidden)]
#[case(USER, "exec", json!({"command": "sh"}), Class::Forbidden)]
#[case(USER, "auth-provider", json!({"name": "gcp"}), Class::Forbidden)]
#[case(USER, "client-certificate", json!("/etc/crt"), Class::Forbidden)]
#[case(USER, "client-key", json!("/etc/key"), Class::Forbidden)]
#[case(USER, "tokenFile", json!("/etc/passwd"), Class::Forbidden)]
#[case(USER, "username", json!("root"), Class::Forbidden)]
#[case(USER, "password", json!("root"), Class::Forbidden)]
#[case(USER, "as", json!("root"), Class::Forbidden)]
#[case(USER, "as-uid", json!("0"), Class::Forbidden)]
#[case(USER, "as-groups", json!(["system:masters"]), Class::Forbidden)]
#[case(USER, "as-user-extra", json!({"a": ["b"]}), Class::Forbidden)]
// What must be there, and well-formed.
#[case(CLUSTER, "server", json!("http://member.example"), Class::Forbidden)]
#[case(CLUSTER, "server", json!(""), Class::Invalid)]
#[case(CLUSTER, "server", json!(7), Class::Invalid)]
#[case(CLUSTER, "server", json!("https://user:hunter2@h"), Class::Invalid)]
#[case(CLUSTER, "server", json!("https://h/?token=hunter2"), Class::Invalid)]
#[case(CLUSTER, "server", json!("https://"), Class::Invalid)]
#[case(CLUSTER, "certificate-authority-data", json!(null), Class::Invalid)]
#[case(CLUSTER, "certificate-authority-data", json!("***"), Class::Invalid)]
#[case(CLUSTER, "certificate-authority-data", json!("aGVsbG8="), Class::Invalid)]
#[case(CLUSTER, "certificate-authority-data", json!({"a": 1}), Class::Invalid)]
#[case(USER, "token", json!("two words"), Class::Invalid)]
#[case(USER, "token", json!("line\nbreak"), Class::Invalid)]
#[case(USER, "token", json!(["hunter2"]), Class::Invalid)]
fn each_field_has_its_rule_and_no_content_is_repeated(
    #[case] part: &str,
    #[case] name: &str,
    #[case] value: Value,
    #[case] class: Class,
) {
    let mut document = good();
    document.pointer_mut(part).unwrap()[name] = value;
    let refusal = check(&document).unwrap_err();
    let expected = format!("{}.{name}", part.rsplit('/').next().unwrap());
    assert_eq!((refusal.class, refusal.field), (class, expected.as_str()));
    let text = refusal.to_string();
    for secret in ["hunter2", "s3cret", "/etc", "root", "aGVsbG8"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn a_field_nobody_has_heard_of_is_refused() {
    for part in [CLUSTER, USER] {
        let mut document = good();
        document.pointer_mut(part).unwrap()["newFeature"] = json!("x");
        assert_eq!(check(&document).unwrap_err().class, Class::Forbidden);
    }
}

#[test]
fn an_empty_value_of_a_forbidden_field_means_absent() {
    let mut document = good();
    document["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = json!(false);
    document["clusters"][0]["cluster"]["proxy-url"] = json!("");
    document["users"][0]["user"]["exec"] = json!(null);
    document["users"][0]["user"]["as-groups"] = json!([]);
    assert!(check(&document).is_ok());
}

#[test]
fn a_server_name_passes_where_the_operator_allows_it() {
    let mut document = good();
    document["clusters"][0]["cluster"]["tls-server-name"] = json!("other");
    let allow = Allowances { server_name: true };
    assert!(read(document.to_string().as_bytes(), allow, now()).is_ok());
}

#[test]
fn certificates_must_fit_their_key_and_the_time() {
    let (valid, other) = (pki(2020, 2040), pki(2020, 2040));
    let (old, future) = (pki(2010, 2020), pki(2035, 2040));
    let user = |certificate: &str, key: &str| json!({"client-certificate-data": certificate, "client-key-data": key});
    for (user, class, field) in [
        (user(&valid.certificate, &other.key), Class::Invalid, KEY),
        (
            user(&old.certificate, &old.key),
            Class::Expired,
            CERTIFICATE,
        ),
        (
            user(&future.certificate, &future.key),
            Class::Invalid,
            CERTIFICATE,
        ),
        (user(&valid.certificate, "aGVsbG8="), Class::Invalid, KEY),
        (user("aGVsbG8=", &valid.key), Class::Invalid, CERTIFICATE),
        (user(&valid.certificate, ""), Class::Invalid, KEY),
        (user("", &valid.key), Class::Invalid, CERTIFICATE),
        (user("", ""), Class::Invalid, "user"),
        (
            json!({"token": "t", "client-certificate-data": valid.certificate, "client-key-data": valid.key}),
            Class::Invalid,
            TOKEN,
        ),
    ] {
        let mut document = good();
        document["users"][0]["user"] = user;
        let refusal = check(&document).unwrap_err();
        assert_eq!((refusal.class, refusal.field), (class, field));
    }
}

#[test]
fn an_expired_authority_is_refused_unless_another_is_good() {
    let (old, valid) = (pki(2010, 2020), pki(2020, 2040));
    let mut document = good();
    document["clusters"][0]["cluster"]["certificate-authority-data"] = json!(old.ca);
    assert_eq!(check(&document).unwrap_err().class, Class::Expired);
    let decode = |text: &str| String::from_utf8(STANDARD.decode(text).unwrap()).unwrap();
    let both = STANDARD.encode(format!("{}{}", decode(&old.ca), decode(&valid.ca)));
    document["clusters"][0]["cluster"]["certificate-authority-data"] = json!(both);
    assert!(check(&document).is_ok());
}

#[rstest]
#[case(b"short".to_vec(), "size")]
#[case(vec![b' '; (1 << 20) + 1], "size")]
#[case(vec![0xff; 200], "document")]
#[case(vec![b'['; 200], "document")]
#[case([b"a: &a [x,x,x,x,x,x,x,x,x]\n".repeat(4).as_slice(), b"\xe2"].concat(), "document")]
#[case(format!("\"{}\"", "text".repeat(40)).into_bytes(), "document")]
fn a_document_that_is_none_is_refused(#[case] content: Vec<u8>, #[case] field: &str) {
    let refusal = read(&content, Allowances::default(), now()).unwrap_err();
    assert_eq!((refusal.class, refusal.field), (Class::Invalid, field));
}

#[test]
fn a_document_that_grows_when_read_is_refused_quickly() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let previous = format!("*a{}", level - 1);
        bomb.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            vec![previous; 10].join(",")
        ));
    }
    let refusal = read(bomb.as_bytes(), Allowances::default(), now()).unwrap_err();
    assert_eq!(refusal.class, Class::Invalid);
}

proptest::proptest! {
    /// Whatever the bytes, reading ends with an answer.
    #[test]
    fn unknown_content_never_panics(content in proptest::collection::vec(proptest::prelude::any::<u8>(), 100..400)) {
        let _ = read(&content, Allowances::default(), now());
    }
}
