//! Short tokens of ServiceAccounts (TokenRequest), and when they are renewed.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tmc_api::agent::kubeconfig::claims;
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::meta::meta;
use tmc_runtime::ResourceClient;

use super::Problem;

/// Longest token that is believed.
const MAX_TOKEN: usize = 16 << 10;

/// A token and its life. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The token.
    pub token: String,
    /// When it was asked for.
    pub at: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl Issued {
    /// Whether four fifths of its life are over.
    pub fn is_due(&self, now: Timestamp) -> bool {
        now >= renew_at(self.at, self.expires)
    }

    /// Whether it is tied to the account with this uid: that of one that is gone is worth nothing,
    /// though another has the name. One that does not say may be.
    pub fn is_of(&self, uid: &str) -> bool {
        claims(&self.token).is_none_or(|claims| claims.uid.is_empty() || claims.uid == uid)
    }
}

/// The uid of an account.
///
/// # Errors
/// When it cannot be read, or is not there.
pub async fn account_uid(
    client: &kube::Client,
    namespace: &str,
    account: &str,
) -> Result<String, Problem> {
    let accounts = GroupVersionResource::new("", "v1", "serviceaccounts");
    let found = ResourceClient::new(client.clone(), accounts)
        .get(namespace, account)
        .await
        .map_err(|error| {
            Problem::of("reading", &format!("ServiceAccount \"{account}\""), &error)
        })?;
    Ok(meta(&found).uid().to_owned())
}

/// When a token is renewed: after four fifths of its life.
pub fn renew_at(issued: Timestamp, expires: Timestamp) -> Timestamp {
    let life = issued.duration_until(expires).max(SignedDuration::ZERO);
    issued.saturating_add(life * 4 / 5).unwrap_or(expires)
}

/// Asks for a token of an account with a life of about `seconds`.
///
/// # Errors
/// When it is refused, not answered, or what comes is no token with an end in the future.
pub async fn request(
    client: &kube::Client,
    namespace: &str,
    account: &str,
    seconds: i64,
    now: Timestamp,
) -> Result<Issued, Problem> {
    let accounts = GroupVersionResource::new("", "v1", "serviceaccounts");
    let client = ResourceClient::new(client.clone(), accounts);
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"expirationSeconds": seconds},
    });
    let what = format!("a token of ServiceAccount \"{account}\"");
    let answer = client
        .create_subresource(namespace, account, "token", &body)
        .await
        .map_err(|error| Problem::of("asking for", &what, &error))?;
    read(&answer, now).ok_or(Problem::Unanswered {
        verb: "asking for",
        what,
    })
}

/// Reads the answer as hostile input: the token goes into headers and files.
fn read(answer: &Value, now: Timestamp) -> Option<Issued> {
    let token = answer["status"]["token"].as_str()?;
    let plain = !token.is_empty() && token.len() <= MAX_TOKEN;
    let expires: Timestamp = answer["status"]["expirationTimestamp"]
        .as_str()?
        .parse()
        .ok()?;
    (plain && token.bytes().all(|b| b.is_ascii_graphic()) && expires > now).then(|| Issued {
        token: token.to_owned(),
        at: now,
        expires,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(2_000_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_token_is_renewed_after_four_fifths_of_its_life() {
        assert_eq!(renew_at(at(0), at(3600)), at(2880));
        assert_eq!(renew_at(at(10), at(0)), at(10), "one that is over is due");
        let issued = Issued {
            token: "t".into(),
            at: at(0),
            expires: at(100),
        };
        assert!(!issued.is_due(at(79)));
        assert!(issued.is_due(at(80)));
    }

    #[rstest]
    #[case(json!({"token": "abc", "expirationTimestamp": "2033-05-18T04:33:20Z"}), true)]
    #[case(json!({"token": "", "expirationTimestamp": "2033-05-18T04:33:20Z"}), false)]
    #[case(json!({"token": "a\nb", "expirationTimestamp": "2033-05-18T04:33:20Z"}), false)]
    #[case(json!({"token": "x".repeat(MAX_TOKEN + 1), "expirationTimestamp": "2033-05-18T04:33:20Z"}), false)]
    #[case(json!({"token": "abc", "expirationTimestamp": "2020-01-01T00:00:00Z"}), false)]
    #[case(json!({"token": "abc"}), false)]
    #[case(json!(null), false)]
    fn only_a_plain_token_that_lives_is_believed(#[case] status: Value, #[case] good: bool) {
        let read = read(&json!({"status": status}), at(0));
        assert_eq!(read.is_some(), good);
        assert!(!format!("{read:?}").contains("abc"), "never printed");
    }
}
