//! A certificate authority: makes itself, server and client certificates, and signs requests.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber, SubjectPublicKeyInfo,
};
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};

use super::{PemPair, TlsError, certificates, der, not_after, subject_names};

/// Clocks differ: certificates are valid from a little before they were made.
const BACKDATE: Duration = Duration::from_secs(300);

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The time it is made at; valid from five minutes before.
    pub now: SystemTime,
    /// How long it is valid from `now` on; never beyond the authority's own certificate.
    pub ttl: Duration,
}

impl Validity {
    /// From the present on.
    pub fn starting_now(ttl: Duration) -> Self {
        Self {
            now: SystemTime::now(),
            ttl,
        }
    }
}

/// A self-made certificate authority.
pub struct CertificateAuthority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    expires: SystemTime,
}

impl CertificateAuthority {
    /// Makes an authority with a fresh key (ECDSA P-256).
    ///
    /// # Errors
    /// [`TlsError::Failed`].
    pub fn generate(common_name: &str, validity: Validity) -> Result<Self, TlsError> {
        let key = KeyPair::generate()?;
        let mut params = params(validity, validity.now + validity.ttl);
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let pem = params.self_signed(&key)?.pem();
        Self::from_pem(&PemPair {
            certificate: pem,
            key: key.serialize_pem(),
        })
    }

    /// Loads one.
    ///
    /// # Errors
    /// [`TlsError`] if either part cannot be read, the certificate is not an authority's, or the
    /// key is not its key.
    pub fn from_pem(pair: &PemPair) -> Result<Self, TlsError> {
        const WHAT: &str = "the CA certificate";
        let key = KeyPair::from_pem(&pair.key).map_err(|e| TlsError::malformed("the CA key", e))?;
        let der = certificates(WHAT, &pair.certificate)?.swap_remove(0);
        let (_, parsed) =
            X509Certificate::from_der(&der).map_err(|e| TlsError::malformed(WHAT, e))?;
        if !parsed.is_ca() {
            return Err(TlsError::Refused(format!(
                "{WHAT} is not an authority's (CA is false)"
            )));
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(TlsError::Refused(
                "the CA key does not belong to the CA certificate".into(),
            ));
        }
        let expires = not_after(&parsed);
        let issuer =
            Issuer::from_ca_cert_der(&der, key).map_err(|e| TlsError::malformed(WHAT, e))?;
        Ok(Self {
            pem: pair.certificate.clone(),
            issuer,
            expires,
        })
    }

    /// Its certificate, for clients to trust.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// Certificate and private key, for storing; see [`super::write_private`].
    pub fn to_pem(&self) -> PemPair {
        PemPair {
            certificate: self.pem.clone(),
            key: self.issuer.key().serialize_pem(),
        }
    }

    /// When its certificate expires.
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    /// A server certificate for DNS names and IP addresses.
    ///
    /// # Errors
    /// [`TlsError`] for a name that is neither.
    pub fn issue_server(&self, names: &[String], validity: Validity) -> Result<PemPair, TlsError> {
        let key = KeyPair::generate()?;
        let mut params = self.leaf(validity, ExtendedKeyUsagePurpose::ServerAuth);
        params.subject_alt_names = CertificateParams::new(names)
            .map_err(|e| TlsError::malformed("a server name", e))?
            .subject_alt_names;
        let common = names.first().map_or("tmc", String::as_str);
        params.distinguished_name.push(DnType::CommonName, common);
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(PemPair {
            certificate,
            key: key.serialize_pem(),
        })
    }

    /// A client certificate for a user in groups, with a fresh key.
    ///
    /// # Errors
    /// [`TlsError::Refused`] for an empty user name.
    pub fn issue_client(
        &self,
        user: &str,
        groups: &[&str],
        validity: Validity,
    ) -> Result<PemPair, TlsError> {
        check_user(user)?;
        let key = KeyPair::generate()?;
        let certificate = self.sign_client(&key, &der::subject(user, groups), validity)?;
        Ok(PemPair {
            certificate,
            key: key.serialize_pem(),
        })
    }

    /// Signs a request as a client certificate: the subject is the request's, everything else is
    /// this authority's choice. *Whether* the subject may be had is the caller's to decide, see
    /// [`CertificateRequest`].
    ///
    /// # Errors
    /// [`TlsError`] for what [`CertificateRequest::parse`] refuses.
    pub fn sign_request(&self, pem: &str, validity: Validity) -> Result<String, TlsError> {
        let request = CertificateRequest::parse(pem)?;
        self.sign_client(&request.key, &request.subject, validity)
    }

    /// As [`CertificateAuthority::sign_request`], with groups beyond those of the request.
    ///
    /// # Errors
    /// [`TlsError`] for what [`CertificateRequest::parse`] refuses.
    pub fn sign_request_adding(
        &self,
        pem: &str,
        groups: &[&str],
        validity: Validity,
    ) -> Result<String, TlsError> {
        let request = CertificateRequest::parse(pem)?;
        let asked = request.groups.iter().map(String::as_str);
        let groups: Vec<&str> = asked.chain(groups.iter().copied()).collect();
        let subject = der::subject(&request.user, &groups);
        self.sign_client(&request.key, &subject, validity)
    }

    fn sign_client(
        &self,
        key: &impl PublicKeyData,
        subject: &[u8],
        validity: Validity,
    ) -> Result<String, TlsError> {
        let params = self.leaf(validity, ExtendedKeyUsagePurpose::ClientAuth);
        let draft = params.signed_by(key, &self.issuer)?;
        let signed = der::with_subject(
            draft.der(),
            der::CERTIFICATE_SUBJECT,
            subject,
            self.issuer.key(),
        )?;
        Ok(to_pem("CERTIFICATE", &signed))
    }

    fn leaf(&self, validity: Validity, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
        let mut params = params(validity, (validity.now + validity.ttl).min(self.expires));
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        params
    }
}

fn params(validity: Validity, end: SystemTime) -> CertificateParams {
    let time = |moment: SystemTime| {
        let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(since.as_secs())
    };
    let mut params = CertificateParams::default();
    params.not_before = time(validity.now - BACKDATE);
    params.not_after = time(end);
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(serial());
    params
}

/// 120 random bits, positive and of fixed length.
fn serial() -> SerialNumber {
    let mut bytes = uuid::Uuid::new_v4().into_bytes();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn check_user(user: &str) -> Result<(), TlsError> {
    if user.is_empty() {
        return Err(TlsError::Refused(
            "a client certificate needs a user name".into(),
        ));
    }
    Ok(())
}

fn to_pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for start in (0..text.len()).step_by(64) {
        pem.push_str(&text[start..(start + 64).min(text.len())]);
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// Largest request that is looked at, in bytes of PEM.
const MAX_REQUEST: usize = 64 * 1024;

/// A certificate signing request whose signature is good.
#[derive(Debug)]
pub struct CertificateRequest {
    /// `CN`, never empty.
    pub user: String,
    /// The `O`s.
    pub groups: Vec<String>,
    /// Subject alternative names it asks for; a client certificate has none.
    pub alternative_names: bool,
    subject: Vec<u8>,
    key: SubjectPublicKeyInfo,
}

impl CertificateRequest {
    /// Reads a request and verifies that whoever made it holds its key.
    ///
    /// # Errors
    /// [`TlsError`] for text that is not one request, a bad signature, or a subject that does not
    /// name exactly one user.
    pub fn parse(pem: &str) -> Result<Self, TlsError> {
        const WHAT: &str = "the certificate signing request";
        if pem.len() > MAX_REQUEST {
            return Err(TlsError::malformed(WHAT, "it is larger than 64 KiB"));
        }
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
            .map_err(|e| TlsError::malformed(WHAT, e))?;
        if !block.label.ends_with("CERTIFICATE REQUEST") {
            return Err(TlsError::malformed(
                WHAT,
                format!("it is a {}", block.label),
            ));
        }
        let (_, request) = X509CertificationRequest::from_der(&block.contents)
            .map_err(|e| TlsError::malformed(WHAT, e))?;
        request
            .verify_signature()
            .map_err(|_| TlsError::malformed(WHAT, "its signature is bad"))?;
        let info = &request.certification_request_info;
        let (user, groups) = subject_names(&info.subject)
            .ok_or_else(|| TlsError::malformed(WHAT, "its subject must have one CN, the user"))?;
        let alternative_names = request
            .requested_extensions()
            .is_some_and(|mut extensions| {
                use x509_parser::extensions::ParsedExtension::SubjectAlternativeName;
                extensions.any(|extension| matches!(extension, SubjectAlternativeName(_)))
            });
        let key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw)
            .map_err(|e| TlsError::malformed(WHAT, e))?;
        Ok(Self {
            user,
            groups,
            alternative_names,
            subject: info.subject.as_raw().to_vec(),
            key,
        })
    }
}

/// Makes a request (first) for a user in groups, and its private key (second), both PEM.
///
/// # Errors
/// [`TlsError::Refused`] for an empty user name.
pub fn generate_request(user: &str, groups: &[&str]) -> Result<(String, String), TlsError> {
    check_user(user)?;
    let key = KeyPair::generate()?;
    let draft = CertificateParams::default().serialize_request(&key)?;
    let subject = der::subject(user, groups);
    let signed = der::with_subject(draft.der(), der::REQUEST_SUBJECT, &subject, &key)?;
    Ok((to_pem("CERTIFICATE REQUEST", &signed), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;

    use super::super::peer;
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn authority() -> CertificateAuthority {
        CertificateAuthority::generate("test-ca", Validity::starting_now(10 * DAY)).unwrap()
    }

    fn der_of(pem: &str) -> CertificateDer<'static> {
        certificates("it", pem).unwrap().swap_remove(0)
    }

    #[test]
    fn a_client_certificate_names_its_user_and_every_group() {
        let groups = ["system:masters", "dev", "ops"];
        let pair = authority()
            .issue_client("ann", &groups, Validity::starting_now(DAY))
            .unwrap();
        let peer = peer(&der_of(&pair.certificate)).unwrap();
        assert_eq!(peer.user.name, "ann");
        assert_eq!(
            peer.user.groups,
            ["system:masters", "dev", "ops", "system:authenticated"].map(str::to_owned)
        );
        assert!(peer.expires > SystemTime::now() + DAY / 2);
    }

    #[test]
    fn a_certificate_never_outlives_its_authority() {
        let ca = authority();
        let pair = ca
            .issue_client("ann", &[], Validity::starting_now(100 * DAY))
            .unwrap();
        assert_eq!(
            peer(&der_of(&pair.certificate)).unwrap().expires,
            ca.expires()
        );
    }

    #[test]
    fn a_signed_request_keeps_its_subject_and_its_key() {
        let (request, _key) = generate_request("bob", &["a", "b"]).unwrap();
        let parsed = CertificateRequest::parse(&request).unwrap();
        assert_eq!((parsed.user.as_str(), parsed.groups.len()), ("bob", 2));
        assert!(!parsed.alternative_names);
        let ca = authority();
        let signed = ca
            .sign_request(&request, Validity::starting_now(DAY))
            .unwrap();
        let der = der_of(&signed);
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(peer(&der).unwrap().user.name, "bob");
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        assert!(!certificate.is_ca());
        let ca_der = der_of(ca.certificate_pem());
        let (_, ca) = X509Certificate::from_der(&ca_der).unwrap();
        certificate.verify_signature(Some(ca.public_key())).unwrap();
    }

    #[test]
    fn two_certificates_of_one_key_differ_in_their_serial() {
        let ca = authority();
        let (request, _) = generate_request("bob", &[]).unwrap();
        let serials: Vec<_> = (0..2)
            .map(|_| {
                let pem = ca
                    .sign_request(&request, Validity::starting_now(DAY))
                    .unwrap();
                let der = der_of(&pem);
                X509Certificate::from_der(&der)
                    .unwrap()
                    .1
                    .raw_serial()
                    .to_vec()
            })
            .collect();
        assert_ne!(serials[0], serials[1]);
    }

    #[test]
    fn requests_that_are_none_or_forged_are_refused() {
        let (good, _) = generate_request("bob", &[]).unwrap();
        let ca = authority();
        for bad in ["", "x", ca.certificate_pem(), &"A".repeat(MAX_REQUEST + 1)] {
            assert!(CertificateRequest::parse(bad).is_err(), "{bad:.40}");
        }
        // The subject of one request in another: the signature no longer fits.
        let (_, block) = x509_parser::pem::parse_x509_pem(good.as_bytes()).unwrap();
        let at = block.contents.windows(3).position(|w| w == b"bob").unwrap();
        let mut forged = block.contents.clone();
        forged[at..at + 3].copy_from_slice(b"eve");
        let error = CertificateRequest::parse(&to_pem("CERTIFICATE REQUEST", &forged)).unwrap_err();
        assert!(error.to_string().contains("signature"), "{error}");
    }

    #[test]
    fn a_user_needs_a_name() {
        assert!(generate_request("", &[]).is_err());
        assert!(
            authority()
                .issue_client("", &[], Validity::starting_now(DAY))
                .is_err()
        );
    }

    #[test]
    fn an_authority_survives_storing_and_loading() {
        let ca = authority();
        let again = CertificateAuthority::from_pem(&ca.to_pem()).unwrap();
        assert_eq!(again.certificate_pem(), ca.certificate_pem());
        assert_eq!(again.expires(), ca.expires());
    }

    #[test]
    fn a_foreign_key_or_a_leaf_is_no_authority() {
        let (one, two) = (authority().to_pem(), authority().to_pem());
        let mixed = PemPair {
            certificate: one.certificate,
            key: two.key.clone(),
        };
        assert!(matches!(
            CertificateAuthority::from_pem(&mixed),
            Err(TlsError::Refused(_))
        ));
        let leaf = authority()
            .issue_client("ann", &[], Validity::starting_now(DAY))
            .unwrap();
        assert!(matches!(
            CertificateAuthority::from_pem(&leaf),
            Err(TlsError::Refused(_))
        ));
        let empty = PemPair {
            certificate: String::new(),
            key: two.key,
        };
        assert!(CertificateAuthority::from_pem(&empty).is_err());
        assert!(!format!("{empty:?}").contains("PRIVATE"));
    }
}
