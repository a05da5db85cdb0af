//! Certificates: a small authority, the rustls configuration of a listener, and the identity that
//! a client certificate proves (`CN` is the user, each `O` a group, as in Kubernetes).

mod authority;
mod der;
mod files;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tmc_apimachinery::user::UserInfo;
use x509_parser::prelude::{FromDer, X509Certificate};

pub use authority::{CertificateAuthority, CertificateRequest, Validity, generate_request};
pub use files::write_private;

/// Why a certificate, key or request cannot be used. Safe to show: never holds key material.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// Text or bytes from outside that are not what they should be.
    #[error("{what} cannot be read: {why}")]
    Malformed {
        /// What was read (`the certificate signing request`).
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// It can be read but must not be used.
    #[error("{0}")]
    Refused(String),
    /// Making or signing failed.
    #[error("cannot make a certificate: {0}")]
    Failed(String),
}

impl TlsError {
    fn malformed(what: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Malformed {
            what,
            why: why.to_string(),
        }
    }
}

impl From<rcgen::Error> for TlsError {
    fn from(error: rcgen::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A certificate (chain) and its private key, both PEM.
#[derive(Clone)]
pub struct PemPair {
    /// The certificate, leaf first.
    pub certificate: String,
    /// The private key (PKCS #8).
    pub key: String,
}

impl std::fmt::Debug for PemPair {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PemPair")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// The TLS side of a listener: `server` is shown to clients; a client may show a certificate of
/// `client_ca` (PEM) and is anonymous without one. Offers HTTP/2 and HTTP/1.1.
///
/// # Errors
/// [`TlsError`] naming what cannot be used.
pub fn server_config(
    server: &PemPair,
    client_ca: Option<&str>,
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = certificates("the server certificate", &server.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes())
        .map_err(|e| TlsError::malformed("the server key", e))?;
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Failed(e.to_string()))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("the client CA", pem)? {
                roots
                    .add(certificate)
                    .map_err(|e| TlsError::malformed("the client CA", e))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|e| TlsError::malformed("the client CA", e))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|e| TlsError::malformed("the server certificate", e))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The certificates of a PEM text, at least one.
fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let list: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| TlsError::malformed(what, e))?;
    if list.is_empty() {
        Err(TlsError::malformed(what, "no certificate in it"))
    } else {
        Ok(list)
    }
}

/// From when until when the first certificate of a PEM text is good; `None` if it holds none.
pub fn validity(pem: &str) -> Option<(SystemTime, SystemTime)> {
    let chain = certificates("the certificate", pem).ok()?;
    let (_, parsed) = X509Certificate::from_der(chain.first()?).ok()?;
    let seconds = u64::try_from(parsed.validity().not_before.timestamp()).ok()?;
    Some((
        UNIX_EPOCH + Duration::from_secs(seconds),
        not_after(&parsed),
    ))
}

/// What a verified client certificate says of its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) user: UserInfo,
    pub(crate) expires: SystemTime,
}

/// Reads the identity in a certificate that the handshake has verified. `None` if it names nobody
/// or more than one common name: then the connection is anonymous.
pub(crate) fn peer(certificate: &[u8]) -> Option<Peer> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let (name, groups) = subject_names(parsed.subject())?;
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    Some(Peer {
        user: UserInfo::new(&name, &groups),
        expires: not_after(&parsed),
    })
}

/// User and groups of a subject, if it names exactly one user.
fn subject_names(subject: &x509_parser::x509::X509Name<'_>) -> Option<(String, Vec<String>)> {
    let mut names = subject.iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    if name.is_empty() || names.next().is_some() {
        return None;
    }
    let groups = subject
        .iter_organization()
        .map(|group| group.as_str().map(str::to_owned))
        .collect::<Result<Vec<_>, _>>()
        .ok()?;
    Some((name, groups))
}

fn not_after(certificate: &X509Certificate<'_>) -> SystemTime {
    let seconds = certificate.validity().not_after.timestamp();
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
