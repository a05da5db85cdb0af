//! The hub's certificate authority: kept in the data directory, signs the server's certificate, the
//! administrator's and those of users.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tmc_apimachinery::ClusterName;
use tmc_hub::{SCOPE_GROUP_PREFIX, Signer};
use tmc_server::tls::{CertificateAuthority, PemPair, Validity, write_private};

const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_TTL: Duration = Duration::from_secs(3650 * 86_400);
const SERVER_TTL: Duration = Duration::from_secs(365 * 86_400);
/// The administrator's certificate is made anew at each start.
const ADMIN_TTL: Duration = Duration::from_secs(365 * 86_400);

/// The authority of one hub.
#[derive(Clone)]
pub struct Authority(Arc<CertificateAuthority>);

impl Authority {
    /// Reads the authority of a data directory, or makes one there.
    ///
    /// # Errors
    /// Naming the file that cannot be read or written.
    pub fn load_or_make(directory: &Path) -> Result<Self> {
        let (certificate, key) = (directory.join("ca.crt"), directory.join("ca.key"));
        if key.exists() {
            let read = |file: &Path| {
                std::fs::read_to_string(file)
                    .with_context(|| format!("cannot read {}", file.display()))
            };
            let pair = PemPair {
                certificate: read(&certificate)?,
                key: read(&key)?,
            };
            let authority = CertificateAuthority::from_pem(&pair)
                .map_err(|error| anyhow!("{}: {error}", certificate.display()))?;
            return Ok(Self(Arc::new(authority)));
        }
        let authority =
            CertificateAuthority::generate("tmc-ca", Validity::starting_now(AUTHORITY_TTL))?;
        let pair = authority.to_pem();
        for (file, text) in [(&certificate, &pair.certificate), (&key, &pair.key)] {
            write_private(file, text.as_bytes())
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(Self(Arc::new(authority)))
    }

    /// Its certificate, PEM.
    pub fn certificate(&self) -> &str {
        self.0.certificate_pem()
    }

    /// A certificate for the server under these names.
    ///
    /// # Errors
    /// For a name that is neither a DNS name nor an address.
    pub fn server(&self, names: &[String]) -> Result<PemPair> {
        Ok(self
            .0
            .issue_server(names, Validity::starting_now(SERVER_TTL))?)
    }

    /// The administrator's certificate.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn administrator(&self) -> Result<PemPair> {
        let groups = [tmc_apimachinery::user::GROUP_MASTERS];
        Ok(self
            .0
            .issue_client("system:admin", &groups, Validity::starting_now(ADMIN_TTL))?)
    }
}

impl Signer for Authority {
    fn sign(
        &self,
        request: &str,
        ttl: Duration,
        scope: Option<&ClusterName>,
    ) -> std::result::Result<String, String> {
        let group = scope.map(|cluster| format!("{SCOPE_GROUP_PREFIX}{cluster}"));
        let groups: Vec<&str> = group.iter().map(String::as_str).collect();
        let validity = Validity::starting_now(ttl.min(365 * DAY));
        self.0
            .sign_request_adding(request, &groups, validity)
            .map_err(|error| error.to_string())
    }
}
