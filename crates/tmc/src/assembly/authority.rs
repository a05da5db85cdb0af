//! The hub's certificate authority: kept in the data directory, signs the server's certificate, the
//! administrator's and those of users. Beside it lie the keys that sign tokens of ServiceAccounts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tmc_apimachinery::ClusterName;
use tmc_hub::{KeyVault, SCOPE_GROUP_PREFIX, Signer};
use tmc_server::tls::{CertificateAuthority, PemPair, Validity, write_private};

const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_TTL: Duration = Duration::from_secs(3650 * 86_400);
const SERVER_TTL: Duration = Duration::from_secs(365 * 86_400);
/// The administrator's certificate is made anew at each start.
const ADMIN_TTL: Duration = Duration::from_secs(365 * 86_400);

/// Holds the private keys of ServiceAccount tokens.
const TOKEN_KEYS_FILE: &str = "serviceaccount-keys.json";

/// The authority of one hub.
#[derive(Clone)]
pub struct Authority {
    certificates: Arc<CertificateAuthority>,
    directory: PathBuf,
}

/// The keys of ServiceAccount tokens, in a private file of the data directory.
struct KeyFile(PathBuf);

impl KeyVault for KeyFile {
    fn place(&self) -> String {
        self.0.display().to_string()
    }

    fn load(&self) -> std::result::Result<Option<Vec<u8>>, String> {
        match std::fs::read(&self.0) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot read {}: {error}", self.0.display())),
        }
    }

    fn save(&self, contents: &[u8]) -> std::result::Result<(), String> {
        write_private(&self.0, contents)
            .map_err(|error| format!("cannot write {}: {error}", self.0.display()))
    }
}

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
            return Ok(Self::in_directory(authority, directory));
        }
        let authority =
            CertificateAuthority::generate("tmc-ca", Validity::starting_now(AUTHORITY_TTL))?;
        let pair = authority.to_pem();
        for (file, text) in [(&certificate, &pair.certificate), (&key, &pair.key)] {
            write_private(file, text.as_bytes())
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(Self::in_directory(authority, directory))
    }

    fn in_directory(certificates: CertificateAuthority, directory: &Path) -> Self {
        Self {
            certificates: Arc::new(certificates),
            directory: directory.to_owned(),
        }
    }

    /// Where the keys of ServiceAccount tokens are kept.
    pub fn token_keys(&self) -> Arc<dyn KeyVault> {
        Arc::new(KeyFile(self.directory.join(TOKEN_KEYS_FILE)))
    }

    /// Its certificate, PEM.
    pub fn certificate(&self) -> &str {
        self.certificates.certificate_pem()
    }

    /// A certificate for the server under these names.
    ///
    /// # Errors
    /// For a name that is neither a DNS name nor an address.
    pub fn server(&self, names: &[String]) -> Result<PemPair> {
        Ok(self
            .certificates
            .issue_server(names, Validity::starting_now(SERVER_TTL))?)
    }

    /// The administrator's certificate.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn administrator(&self) -> Result<PemPair> {
        let groups = [tmc_apimachinery::user::GROUP_MASTERS];
        Ok(self.certificates.issue_client(
            "system:admin",
            &groups,
            Validity::starting_now(ADMIN_TTL),
        )?)
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
        self.certificates
            .sign_request_adding(request, &groups, validity)
            .map_err(|error| error.to_string())
    }
}
