//! Kubeconfigs of agents and of registrations: one context, everything inline.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Name of the one cluster, context and user.
const ENTRY: &str = "tmc";

/// A kubeconfig with an inline token.
pub fn with_token(server: &str, ca_pem: &[u8], token: &str) -> Value {
    config(
        server,
        &json!({"certificate-authority-data": STANDARD.encode(ca_pem)}),
        &json!({"token": token}),
    )
}

/// A kubeconfig of a pod: the cluster it runs in, as the account whose token is mounted at
/// `directory` (`token`, `ca.crt`).
pub fn in_cluster(directory: &str) -> Value {
    config(
        "https://kubernetes.default.svc",
        &json!({"certificate-authority": format!("{directory}/ca.crt")}),
        &json!({"tokenFile": format!("{directory}/token")}),
    )
}

fn config(server: &str, trust: &Value, user: &Value) -> Value {
    let mut cluster = trust.clone();
    cluster["server"] = server.into();
    json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": ENTRY,
        "clusters": [{"name": ENTRY, "cluster": cluster}],
        "contexts": [{"name": ENTRY, "context": {"cluster": ENTRY, "user": ENTRY}}],
        "users": [{"name": ENTRY, "user": user}],
    })
}

/// What a bound token says of itself. Not verified: that is the business of whoever accepts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenClaims {
    /// Namespace of its ServiceAccount.
    pub namespace: String,
    /// Name of its ServiceAccount.
    pub account: String,
    /// UID of its ServiceAccount, to which a bound token is tied; empty if it does not say.
    pub uid: String,
    /// When it was issued, in seconds since 1970.
    pub issued: i64,
    /// When it ends, likewise.
    pub expires: i64,
}

/// Reads a token that is the JWT of a ServiceAccount with an end; `None` for every other.
pub fn claims(token: &str) -> Option<TokenClaims> {
    let mut parts = token.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let subject = claims["sub"]
        .as_str()?
        .strip_prefix("system:serviceaccount:")?;
    let (namespace, account) = subject.split_once(':')?;
    Some(TokenClaims {
        namespace: namespace.to_owned(),
        account: account.to_owned(),
        uid: claims["kubernetes.io"]["serviceaccount"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        issued: claims["iat"].as_i64()?,
        expires: claims["exp"].as_i64()?,
    })
}

#[cfg(test)]
pub(super) fn fake_token(subject: &str, issued: i64, expires: i64) -> String {
    let bound = json!({"serviceaccount": {"uid": "u-1"}});
    let payload = json!({"sub": subject, "iat": issued, "exp": expires, "kubernetes.io": bound});
    let payload = payload.to_string();
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_has_one_context_and_its_token_inline() {
        let config = with_token("https://hub:6443/clusters/c", b"PEM", "t0ken");
        assert_eq!(config["current-context"], config["contexts"][0]["name"]);
        assert_eq!(config["users"][0]["user"], json!({"token": "t0ken"}));
        assert_eq!(
            config["clusters"][0]["cluster"],
            json!({"server": "https://hub:6443/clusters/c", "certificate-authority-data": "UEVN"})
        );
        let pod = in_cluster("/var/run/x");
        assert_eq!(
            pod["users"][0]["user"],
            json!({"tokenFile": "/var/run/x/token"})
        );
    }

    #[test]
    fn only_the_token_of_an_account_has_claims() {
        let token = fake_token("system:serviceaccount:ns:sa", 10, 20);
        let expected = TokenClaims {
            namespace: "ns".into(),
            account: "sa".into(),
            uid: "u-1".into(),
            issued: 10,
            expires: 20,
        };
        assert_eq!(claims(&token), Some(expected));
        assert_eq!(claims(&fake_token("jane", 10, 20)), None);
        for other in ["", "opaque", "a.b", "a.b.c.d", "e30.e30.e30"] {
            assert_eq!(claims(other), None, "{other}");
        }
    }
}
