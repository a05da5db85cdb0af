//! The ways into members, from whoever validates credentials to whoever uses them.

use std::collections::HashMap;

use parking_lot::Mutex;
use tmc_runtime::{ClusterKey, Connection};

/// What is known of the way into a member.
#[derive(Clone, Debug, Default)]
pub enum Member {
    /// Its credential was not looked at yet.
    #[default]
    Unknown,
    /// Its credential is valid.
    Usable {
        /// The way in.
        connection: Connection,
        /// Changes exactly when the credential does.
        fingerprint: String,
        /// The syncer's own account, once it is good.
        account: Option<Way>,
    },
    /// Its credential must not be used.
    Unusable,
}

/// A way into a member.
#[derive(Clone, Debug)]
pub struct Way {
    /// The way in. Its tokens come and go inside it.
    pub connection: Connection,
    /// Changes exactly when `connection` does.
    pub fingerprint: String,
}

impl Member {
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Usable {
                    fingerprint: a,
                    account: x,
                    ..
                },
                Self::Usable {
                    fingerprint: b,
                    account: y,
                    ..
                },
            ) => {
                let print = |way: &Option<Way>| way.as_ref().map(|way| way.fingerprint.clone());
                a == b && print(x) == print(y)
            }
            (Self::Unknown, Self::Unknown) | (Self::Unusable, Self::Unusable) => true,
            _ => false,
        }
    }
}

/// Members by their Cluster; an entry counts only for the Cluster's own uid.
#[derive(Default)]
pub struct Members(Mutex<HashMap<ClusterKey, (String, Member)>>);

impl Members {
    /// What is known of the member of a Cluster.
    pub fn get(&self, cluster: &ClusterKey, uid: &str) -> Member {
        let members = self.0.lock();
        members
            .get(cluster)
            .filter(|(known, _)| known == uid)
            .map(|(_, m)| m.clone())
            .unwrap_or_default()
    }

    /// Notes what is known; says whether that is news.
    pub fn set(&self, cluster: &ClusterKey, uid: &str, member: Member) -> bool {
        let mut members = self.0.lock();
        let before = members.get(cluster).filter(|(known, _)| known == uid);
        let news = !before.map_or(&Member::Unknown, |(_, m)| m).same(&member);
        if news {
            members.insert(cluster.clone(), (uid.to_owned(), member));
        }
        news
    }

    /// Of how many Clusters something is known.
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Forgets a Cluster that does not exist any more.
    pub fn forget(&self, cluster: &ClusterKey) {
        self.0.lock().remove(cluster);
    }
}

#[cfg(test)]
mod tests {
    use tmc_apimachinery::ClusterName;

    use super::*;

    #[test]
    fn only_a_new_fingerprint_uid_or_verdict_is_news() {
        let members = Members::default();
        let key = ClusterKey::new(&ClusterName::new("c"), "default", "east");
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Ok::<_, std::io::Error>(http::Response::new(kube::client::Body::empty()))
        });
        let connection = Connection::in_process(service);
        let usable = |print: &str| Member::Usable {
            connection: connection.clone(),
            fingerprint: print.into(),
            account: None,
        };
        assert!(!members.set(&key, "u", Member::Unknown));
        assert!(members.set(&key, "u", usable("a")));
        assert!(!members.set(&key, "u", usable("a")));
        assert!(members.set(&key, "u", usable("b")));
        assert!(matches!(members.get(&key, "u"), Member::Usable { .. }));
        let with_account = Member::Usable {
            connection: connection.clone(),
            fingerprint: "b".into(),
            account: Some(Way {
                connection: connection.clone(),
                fingerprint: "x".into(),
            }),
        };
        assert!(members.set(&key, "u", with_account.clone()));
        assert!(!members.set(&key, "u", with_account));
        assert!(matches!(members.get(&key, "other"), Member::Unknown));
        assert!(
            members.set(&key, "other", usable("b")),
            "another uid is another Cluster"
        );
        assert!(members.set(&key, "other", Member::Unusable));
        members.forget(&key);
        assert!(matches!(members.get(&key, "other"), Member::Unknown));
    }
}
