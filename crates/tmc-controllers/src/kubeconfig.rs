//! Member kubeconfigs, read as hostile input.
//!
//! A kubeconfig may name programs to run, files to read, proxies to use and hosts to trust blindly.
//! Here only what is on the allow-list passes: one current context with an `https` server, inline
//! CA, and an inline client certificate with its key or an inline token. Everything else is refused
//! with the field named and without a byte of the content in the message.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Map, Value};
use tmc_runtime::{Credential, Endpoint};

/// Sizes that a kubeconfig may have, in bytes.
const SIZE: std::ops::RangeInclusive<usize> = 100..=1 << 20;
/// How far a certificate may start in the future: clocks differ.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// Longest token accepted.
const MAX_TOKEN: usize = 16 << 10;

/// Why a kubeconfig is not used; each class is a reason of the condition `CredentialsValid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Malformed or incomplete.
    Invalid,
    /// Uses a feature that is not allowed.
    Forbidden,
    /// Was good once.
    Expired,
}

impl Class {
    /// The condition reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Invalid => "InvalidCredentials",
            Self::Forbidden => "CredentialsForbidden",
            Self::Expired => "CredentialsExpired",
        }
    }
}

/// A refused kubeconfig. Printing it shows the field and what is wrong, never the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal.
    pub class: Class,
    /// The field, as a path in the kubeconfig (`user.exec`).
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub why: &'static str,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "kubeconfig {}: {}", self.field, self.why)
    }
}

fn invalid(field: &'static str, why: &'static str) -> Refusal {
    Refusal {
        class: Class::Invalid,
        field,
        why,
    }
}

fn forbidden(field: &'static str, why: &'static str) -> Refusal {
    Refusal {
        class: Class::Forbidden,
        field,
        why,
    }
}

fn expired(field: &'static str, why: &'static str) -> Refusal {
    Refusal {
        class: Class::Expired,
        field,
        why,
    }
}

/// What a kubeconfig authenticates with (`status.credentials.kind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client certificate.
    ClientCertificate,
    /// A bearer token.
    Token,
}

impl Kind {
    /// The value on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientCertificate => "ClientCertificate",
            Self::Token => "Token",
        }
    }
}

/// A kubeconfig that passed.
#[derive(Clone, Debug)]
pub struct MemberKubeconfig {
    /// Where and how to connect.
    pub endpoint: Endpoint,
    /// What it authenticates with.
    pub kind: Kind,
    /// When that ends, if it says so.
    pub expires: Option<Timestamp>,
}

/// What an operator may allow beyond the list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowances {
    /// Whether `tls-server-name` is accepted.
    pub server_name: bool,
}

/// Reads a kubeconfig.
///
/// # Errors
/// The first rule broken, in the order: size, syntax, context, cluster, user, validity.
pub fn read(
    content: &[u8],
    allow: Allowances,
    now: Timestamp,
) -> Result<MemberKubeconfig, Refusal> {
    if !SIZE.contains(&content.len()) {
        return Err(invalid("size", "must be between 100 bytes and 1 MiB"));
    }
    let text =
        std::str::from_utf8(content).map_err(|_| invalid("document", "is not UTF-8 text"))?;
    let document: Value = serde_saphyr::from_str(text)
        .map_err(|_| invalid("document", "is not one YAML or JSON document"))?;
    let context = current_context(&document)?;
    let cluster_name = text_of(context, "cluster")
        .ok_or_else(|| invalid("context.cluster", "is missing; name one of the clusters"))?;
    let user_name = text_of(context, "user")
        .ok_or_else(|| invalid("context.user", "is missing; name one of the users"))?;
    let cluster = entry(&document, "clusters", "cluster", cluster_name)
        .map_err(|why| invalid("context.cluster", why))?;
    let user =
        entry(&document, "users", "user", user_name).map_err(|why| invalid("context.user", why))?;
    check_cluster_fields(cluster, allow)?;
    check_user_fields(user)?;
    let ca = read_ca(cluster, now)?;
    let (credential, kind, expires) = read_credential(user, now)?;
    let server = text_of(cluster, "server").ok_or_else(|| {
        invalid(
            "cluster.server",
            "is missing; give the https URL of the server",
        )
    })?;
    if !server.starts_with("https://") {
        return Err(forbidden("cluster.server", "must be an https URL"));
    }
    let mut endpoint = Endpoint::new(server, ca, credential).map_err(|_| {
        invalid(
            "cluster.server",
            "must be https://host[:port][/path] without user, query, fragment",
        )
    })?;
    if let Some(name) = text_of(cluster, "tls-server-name") {
        endpoint = endpoint.with_server_name(name);
    }
    Ok(MemberKubeconfig {
        endpoint,
        kind,
        expires,
    })
}

type Fields = Map<String, Value>;

fn current_context(document: &Value) -> Result<&Fields, Refusal> {
    let document = document
        .as_object()
        .ok_or_else(|| invalid("document", "is not a kubeconfig"))?;
    let name = text_of(document, "current-context")
        .ok_or_else(|| invalid("current-context", "is missing; name one of the contexts"))?;
    find(document, "contexts", "context", name).map_err(|why| invalid("current-context", why))
}

fn entry<'a>(
    document: &'a Value,
    list: &str,
    member: &str,
    name: &str,
) -> Result<&'a Fields, &'static str> {
    document
        .as_object()
        .ok_or("is not a kubeconfig")
        .and_then(|d| find(d, list, member, name))
}

/// The one entry of a named list. Two of a name would make it a matter of chance which is checked
/// and which is used.
fn find<'a>(
    document: &'a Fields,
    list: &str,
    member: &str,
    name: &str,
) -> Result<&'a Fields, &'static str> {
    let entries = document.get(list).and_then(Value::as_array);
    let mut found = entries
        .into_iter()
        .flatten()
        .filter(|entry| entry["name"] == name);
    let entry = found.next().ok_or("names an entry that does not exist")?;
    if found.next().is_some() {
        return Err("names an entry that exists twice");
    }
    entry[member]
        .as_object()
        .ok_or("names an entry that is empty")
}

/// A non-empty text member.
fn text_of<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// Whether a member says something: null, false and empty values are what writers put for "absent".
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}

const FILE: &str =
    "a file path is not allowed; put the content inline (kubectl config view --flatten --raw)";
const IMPERSONATION: &str = "impersonation is not allowed";

fn check_cluster_fields(cluster: &Fields, allow: Allowances) -> Result<(), Refusal> {
    for (name, value) in cluster {
        let refusal = match name.as_str() {
            "server" | "certificate-authority-data" | "disable-compression" | "extensions" => {
                continue;
            }
            _ if !is_set(value) => continue,
            "tls-server-name" if allow.server_name => continue,
            "tls-server-name" => forbidden("cluster.tls-server-name", "is not allowed on this hub"),
            "certificate-authority" => forbidden("cluster.certificate-authority", FILE),
            "insecure-skip-tls-verify" => forbidden(
                "cluster.insecure-skip-tls-verify",
                "is not allowed; give certificate-authority-data",
            ),
            "proxy-url" => forbidden("cluster.proxy-url", "a proxy is not allowed"),
            _ => forbidden(
                "cluster",
                "has a field that is not on the list of accepted ones",
            ),
        };
        return Err(refusal);
    }
    Ok(())
}

fn check_user_fields(user: &Fields) -> Result<(), Refusal> {
    for (name, value) in user {
        let refusal = match name.as_str() {
            "client-certificate-data" | "client-key-data" | "token" | "extensions" => continue,
            _ if !is_set(value) => continue,
            "exec" => forbidden(
                "user.exec",
                "a program to run is not allowed; use a token or a client certificate",
            ),
            "auth-provider" => forbidden(
                "user.auth-provider",
                "is not allowed; use a token or a client certificate",
            ),
            "client-certificate" => forbidden("user.client-certificate", FILE),
            "client-key" => forbidden("user.client-key", FILE),
            "tokenFile" => forbidden("user.tokenFile", FILE),
            "username" => forbidden("user.username", "passwords are not allowed; use a token"),
            "password" => forbidden("user.password", "passwords are not allowed; use a token"),
            "as" => forbidden("user.as", IMPERSONATION),
            "as-uid" => forbidden("user.as-uid", IMPERSONATION),
            "as-groups" => forbidden("user.as-groups", IMPERSONATION),
            "as-user-extra" => forbidden("user.as-user-extra", IMPERSONATION),
            _ => forbidden(
                "user",
                "has a field that is not on the list of accepted ones",
            ),
        };
        return Err(refusal);
    }
    Ok(())
}

/// Decoded inline data; `None` if absent.
fn inline(fields: &Fields, name: &str) -> Option<Result<Vec<u8>, &'static str>> {
    let value = fields.get(name).filter(|value| is_set(value))?;
    let text: String = value
        .as_str()
        .unwrap_or("?")
        .split_ascii_whitespace()
        .collect();
    Some(STANDARD.decode(text).map_err(|_| "is not base64"))
}

const CA: &str = "cluster.certificate-authority-data";

fn read_ca(cluster: &Fields, now: Timestamp) -> Result<Vec<u8>, Refusal> {
    let pem = inline(cluster, "certificate-authority-data")
        .ok_or_else(|| invalid(CA, "is missing; give the CA certificate as base64 of PEM"))?
        .map_err(|why| invalid(CA, why))?;
    let certificates = certificates(&pem).map_err(|why| invalid(CA, why))?;
    let mut ends = Vec::new();
    for certificate in &certificates {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|_| invalid(CA, "holds something that is not an X.509 certificate"))?;
        ends.push(parsed.validity().not_after.timestamp());
    }
    // Several roots are usual during a rotation: one that is still good is enough.
    if ends.iter().all(|end| *end < now.as_second()) {
        return Err(expired(CA, "the certificate has expired"));
    }
    Ok(pem)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match list {
        Ok(list) if !list.is_empty() => Ok(list),
        _ => Err("is not a PEM certificate"),
    }
}

const CERTIFICATE: &str = "user.client-certificate-data";
const KEY: &str = "user.client-key-data";
const TOKEN: &str = "user.token";

fn read_credential(
    user: &Fields,
    now: Timestamp,
) -> Result<(Credential, Kind, Option<Timestamp>), Refusal> {
    let chain = inline(user, "client-certificate-data").transpose();
    let chain = chain.map_err(|why| invalid(CERTIFICATE, why))?;
    let key = inline(user, "client-key-data")
        .transpose()
        .map_err(|why| invalid(KEY, why))?;
    let token = user.get("token").filter(|value| is_set(value));
    match (chain, key, token) {
        (Some(chain), Some(key), None) => {
            let expires = check_certificate(&chain, &key, now)?;
            let credential = Credential::Certificate { chain, key };
            Ok((credential, Kind::ClientCertificate, Some(expires)))
        }
        (None, None, Some(token)) => {
            let (token, expires) = check_token(token, now)?;
            Ok((Credential::Token(token), Kind::Token, expires))
        }
        (Some(_), None, None) => Err(invalid(KEY, "is missing beside client-certificate-data")),
        (None, Some(_), None) => Err(invalid(CERTIFICATE, "is missing beside client-key-data")),
        (None, None, None) => Err(invalid(
            "user",
            "has no credential; give a token or a client certificate inline",
        )),
        (_, _, Some(_)) => Err(invalid(
            TOKEN,
            "stands beside a client certificate; give one of the two",
        )),
    }
}

fn check_certificate(chain: &[u8], key: &[u8], now: Timestamp) -> Result<Timestamp, Refusal> {
    let chain = certificates(chain).map_err(|why| invalid(CERTIFICATE, why))?;
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0])
        .map_err(|_| invalid(CERTIFICATE, "is not an X.509 certificate"))?;
    let validity = leaf.validity();
    let time = |seconds| {
        Timestamp::from_second(seconds).map_err(|_| invalid(CERTIFICATE, "has an impossible date"))
    };
    let (start, end) = (
        time(validity.not_before.timestamp())?,
        time(validity.not_after.timestamp())?,
    );
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|_| invalid(KEY, "is not a PEM private key"))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|_| invalid(KEY, "is of a kind that is not supported"))?;
    rustls::sign::CertifiedKey::new(chain, key)
        .keys_match()
        .map_err(|_| invalid(KEY, "does not belong to client-certificate-data"))?;
    if end <= now {
        return Err(expired(
            CERTIFICATE,
            "has expired; store a new kubeconfig in the Secret",
        ));
    }
    if start > now.saturating_add(SKEW).unwrap_or(Timestamp::MAX) {
        return Err(invalid(CERTIFICATE, "is not valid yet"));
    }
    Ok(end)
}

fn check_token(token: &Value, now: Timestamp) -> Result<(String, Option<Timestamp>), Refusal> {
    let token = token
        .as_str()
        .ok_or_else(|| invalid(TOKEN, "is not text"))?;
    if token.len() > MAX_TOKEN || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(invalid(
            TOKEN,
            "has characters or a length that no token has",
        ));
    }
    let expires = jwt_expiry(token);
    if expires.is_some_and(|end| end <= now) {
        return Err(expired(
            TOKEN,
            "has expired; store a new kubeconfig in the Secret",
        ));
    }
    Ok((token.to_owned(), expires))
}

/// `exp` of a token that is a JWT. The signature is the member's business.
fn jwt_expiry(token: &str) -> Option<Timestamp> {
    let mut parts = token.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    Timestamp::from_second(claims.get("exp")?.as_i64()?).ok()
}

#[cfg(test)]
mod tests;
