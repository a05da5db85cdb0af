//! What a token says, and whether that can be believed now; both without a look at any object.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use tmc_apimachinery::user::UserInfo;

use crate::rbac::{SCOPE_GROUP_PREFIX, SERVICE_ACCOUNT_PREFIX};

/// The claims of a token; times in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub aud: Vec<String>,
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub subject: Subject,
    pub nbf: i64,
    pub sub: String,
}

/// The claim `kubernetes.io`: whose token it is, and what it lives and dies with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// The logical cluster; absent where there is only one.
    #[serde(
        rename = "clusterName",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    pub cluster: String,
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    #[serde(rename = "serviceaccount")]
    pub account: Reference,
}

/// One object, exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub name: String,
    pub uid: String,
}

/// Why a token is not believed. The text tells its bearer no more than its own token does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYet,
    /// It is meant for others.
    Audience {
        has: Vec<String>,
        wanted: Vec<String>,
    },
    /// Its claims contradict each other.
    Contradiction,
    /// The account is gone, is going, or is another one of the same name.
    Account,
    /// The object it is bound to is gone, is going, or is another one of the same name.
    Bound(&'static str),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("service account token has expired"),
            Self::NotYet => f.write_str("service account token is not valid yet"),
            Self::Audience { has, wanted } => write!(
                f,
                "token audiences {has:?} is invalid for the target audiences {wanted:?}"
            ),
            Self::Contradiction => f.write_str("service account token claims are invalid"),
            Self::Account => f.write_str("service account token has been invalidated"),
            Self::Bound(kind) => write!(
                f,
                "service account token has been invalidated: the {kind} it was bound to is gone"
            ),
        }
    }
}

impl Claims {
    /// Checks times, audience and that subject and account are the same; returns the audiences that
    /// both sides name. Exact: no leeway, because issuer and verifier share a clock.
    pub(crate) fn check(&self, now: i64, wanted: &[String]) -> Result<Vec<String>, Refusal> {
        if now >= self.exp {
            return Err(Refusal::Expired);
        }
        if now < self.nbf {
            return Err(Refusal::NotYet);
        }
        let Subject {
            namespace, account, ..
        } = &self.subject;
        if self.sub != user_name(namespace, &account.name) || account.uid.is_empty() {
            return Err(Refusal::Contradiction);
        }
        let common: Vec<String> = wanted
            .iter()
            .filter(|audience| self.aud.contains(audience))
            .cloned()
            .collect();
        if common.is_empty() {
            return Err(Refusal::Audience {
                has: self.aud.clone(),
                wanted: wanted.to_owned(),
            });
        }
        Ok(common)
    }

    /// The identity that the token proves, once everything has been checked.
    pub(crate) fn user(&self) -> UserInfo {
        let subject = &self.subject;
        let in_namespace = format!("system:serviceaccounts:{}", subject.namespace);
        let mut user = UserInfo::new(&self.sub, &["system:serviceaccounts", &in_namespace]);
        user.uid.clone_from(&subject.account.uid);
        if !subject.cluster.is_empty() {
            user.groups
                .push(format!("{SCOPE_GROUP_PREFIX}{}", subject.cluster));
        }
        user.extra = self.extra();
        user
    }

    fn extra(&self) -> BTreeMap<String, Vec<String>> {
        let mut extra = BTreeMap::new();
        let mut add = |key: &str, value: &str| {
            let key = format!("authentication.kubernetes.io/{key}");
            extra.insert(key, vec![value.to_owned()]);
        };
        add("credential-id", &format!("JTI={}", self.jti));
        if !self.subject.cluster.is_empty() {
            add("cluster-name", &self.subject.cluster);
        }
        for (kind, reference) in [("node", &self.subject.node), ("pod", &self.subject.pod)] {
            if let Some(reference) = reference {
                add(&format!("{kind}-name"), &reference.name);
                add(&format!("{kind}-uid"), &reference.uid);
            }
        }
        extra
    }
}

/// The user name of a ServiceAccount.
pub(crate) fn user_name(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn claims() -> Claims {
        Claims {
            aud: vec!["api".into(), "vault".into()],
            exp: 1600,
            iat: 1000,
            iss: "https://tmc.default.svc".into(),
            jti: "j".into(),
            subject: Subject {
                cluster: "abc".into(),
                namespace: "ns".into(),
                pod: Some(Reference {
                    name: "p".into(),
                    uid: "pu".into(),
                }),
                account: Reference {
                    name: "robot".into(),
                    uid: "u".into(),
                },
                ..Subject::default()
            },
            nbf: 1000,
            sub: "system:serviceaccount:ns:robot".into(),
        }
    }

    fn wanted(audiences: &[&str]) -> Vec<String> {
        audiences.iter().map(|a| (*a).to_owned()).collect()
    }

    #[test]
    fn claims_are_spelled_as_kubernetes_and_kcp_spell_them() {
        let encoded = serde_json::to_value(claims()).expect("encodes");
        assert_eq!(
            encoded,
            json!({
                "aud": ["api", "vault"], "exp": 1600, "iat": 1000, "nbf": 1000,
                "iss": "https://tmc.default.svc", "jti": "j",
                "sub": "system:serviceaccount:ns:robot",
                "kubernetes.io": {"clusterName": "abc", "namespace": "ns",
                    "pod": {"name": "p", "uid": "pu"},
                    "serviceaccount": {"name": "robot", "uid": "u"}},
            })
        );
    }

    #[rstest]
    #[case::the_first_second(1000, true)]
    #[case::the_last_second(1599, true)]
    #[case::too_early(999, false)]
    #[case::at_its_end(1600, false)]
    fn times_are_exact(#[case] now: i64, #[case] good: bool) {
        assert_eq!(claims().check(now, &wanted(&["api"])).is_ok(), good);
    }

    #[rstest]
    #[case(&["api"], Some(&["api"][..]))]
    #[case(&["other", "vault", "api"], Some(&["vault", "api"][..]))]
    #[case(&["ap"], None)]
    #[case(&[], None)]
    fn an_audience_must_be_named_by_both(#[case] asked: &[&str], #[case] common: Option<&[&str]>) {
        let found = claims().check(1000, &wanted(asked)).ok();
        assert_eq!(found, common.map(wanted));
    }

    #[test]
    fn a_subject_that_is_not_the_account_is_refused() {
        let mut forged = claims();
        forged.sub = "system:serviceaccount:ns:admin".into();
        let error = forged.check(1000, &wanted(&["api"]));
        assert_eq!(error, Err(Refusal::Contradiction));
    }

    #[test]
    fn the_identity_is_a_service_account_confined_to_its_workspace() {
        let user = claims().user();
        assert_eq!(user.name, "system:serviceaccount:ns:robot");
        assert_eq!(user.uid, "u");
        assert_eq!(
            user.groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:ns",
                "system:authenticated",
                "system:tmc:scope:abc",
            ]
        );
        let extra = |key: &str| &user.extra[&format!("authentication.kubernetes.io/{key}")][0];
        assert_eq!(extra("credential-id"), "JTI=j");
        assert_eq!(extra("pod-name"), "p");
        assert_eq!(extra("cluster-name"), "abc");
    }
}
