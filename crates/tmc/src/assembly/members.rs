//! Simulated members of this process, reached by a made-up host name and a token: the
//! administrator's, or one that the member itself issued.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::RwLock;
use serde_json::json;
use tmc_controllers::connector::{SIMULATED_SUFFIX, SimulatedMembers};
use tmc_runtime::Connection;
use tmc_runtime::Credential;

use super::authority::Authority;

struct Known {
    token: String,
    connection: Connection,
}

/// The simulated members by host name. Whoever can write a Secret can name a host, so a member is
/// reached with full rights only with the token that is made up at its start. Any other token is the
/// member's to judge, as the token of one of its ServiceAccounts.
#[derive(Default)]
pub struct Members(RwLock<HashMap<String, Known>>);

impl Members {
    /// Makes a member reachable; returns a kubeconfig for it. The connection has full rights, unless a
    /// request carries a token.
    pub fn add(&self, name: &str, connection: Connection, authority: &Authority) -> String {
        let token = format!(
            "{}{}",
            uuid::Uuid::new_v4().simple(),
            uuid::Uuid::new_v4().simple()
        );
        self.add_with_token(name, connection, authority.certificate(), token)
    }

    /// As [`Members::add`], with the authority's certificate (PEM) and the token given.
    pub fn add_with_token(
        &self,
        name: &str,
        connection: Connection,
        certificate: &str,
        token: String,
    ) -> String {
        let host = format!("{name}{SIMULATED_SUFFIX}");
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "clusters": [{"name": name, "cluster": {
                "server": format!("https://{host}"),
                "certificate-authority-data": STANDARD.encode(certificate),
            }}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": "tmc"}}],
            "users": [{"name": "tmc", "user": {"token": token}}],
        });
        self.0.write().insert(host, Known { token, connection });
        kubeconfig.to_string()
    }
}

impl SimulatedMembers for Members {
    fn connect(&self, host: &str, credential: &Credential) -> Option<Connection> {
        let members = self.0.read();
        let known = members.get(host)?;
        match credential {
            Credential::Token(token) if *token == known.token => Some(known.connection.clone()),
            Credential::Token(token) => known.connection.with_bearer(token).ok(),
            _ => None,
        }
    }
}
