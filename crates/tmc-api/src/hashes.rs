//! Hashes and the names derived from them (wire protocol, section 4).
//!
//! Two alphabets: digits, then `a-z`, then (base 62 only) `A-Z`. Every hash is SHA-224.

use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha224};
use thiserror::Error;

const ALPHABET: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Longest DNS-1123 label.
const LABEL_MAX: usize = 63;

/// Digits of a big-endian integer, most significant first, without leading zeros; empty for zero.
fn digits(bytes: &[u8], base: u16) -> Vec<u8> {
    let mut rest = bytes.to_vec();
    let mut text = Vec::new();
    while rest.iter().any(|&byte| byte != 0) {
        let mut remainder = 0u16;
        for byte in &mut rest {
            let value = (remainder << 8) | u16::from(*byte);
            *byte = (value / base) as u8;
            remainder = value % base;
        }
        text.push(ALPHABET[usize::from(remainder)]);
    }
    text.reverse();
    text
}

fn ascii(text: Vec<u8>) -> String {
    text.into_iter().map(char::from).collect()
}

/// The bytes as one big-endian integer in base 62, without padding (`0` for zero).
pub fn base62(bytes: &[u8]) -> String {
    let text = digits(bytes, 62);
    if text.is_empty() {
        "0".to_owned()
    } else {
        ascii(text)
    }
}

/// One `0` for each leading zero **byte**, then the integer in base 36, lower case.
pub fn base36(bytes: &[u8]) -> String {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    let mut text = vec![b'0'; zeros];
    text.extend(digits(bytes, 36));
    ascii(text)
}

/// `base36(SHA-224(text))`.
pub fn base36_sha224(text: &str) -> String {
    base36(&Sha224::digest(text.as_bytes()))
}

/// `base62(SHA-224(text))`.
pub fn base62_sha224(text: &str) -> String {
    base62(&Sha224::digest(text.as_bytes()))
}

/// The first `length` characters of `base36(SHA-224(text))`.
fn short36(text: &str, length: usize) -> String {
    let mut hash = base36_sha224(text);
    hash.truncate(length);
    hash
}

/// The SyncTargetKey: names a SyncTarget in labels, annotations and finalizers.
pub fn sync_target_key(cluster: &str, name: &str) -> String {
    base62_sha224(&format!("{cluster}:{name}"))
}

/// The SyncTarget of a [`Locator`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SyncTargetLocator {
    /// Its logical cluster. Older locators call it `path`.
    pub cluster: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// Where a downstream namespace or cluster-scoped object comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locator {
    /// The target it is there for.
    pub sync_target: SyncTargetLocator,
    /// The upstream logical cluster.
    pub cluster: String,
    /// The upstream namespace, empty for cluster-scoped objects.
    pub namespace: String,
}

/// A locator that cannot be read.
#[derive(Debug, Error)]
#[error("not a namespace locator: {0}")]
pub struct LocatorError(#[from] serde_json::Error);

#[derive(Deserialize)]
struct LocatorWire {
    #[serde(rename = "syncTarget")]
    sync_target: SyncTargetWire,
    cluster: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Deserialize)]
struct SyncTargetWire {
    #[serde(default)]
    cluster: String,
    #[serde(default)]
    path: String,
    name: String,
    uid: String,
}

impl Locator {
    /// Compact JSON with the fields in the order of the wire; never writes `syncTarget.path`.
    /// Two locators are the same if and only if this text is.
    pub fn to_json(&self) -> String {
        // Assembled by hand because the order of the fields is part of the contract.
        let target = &self.sync_target;
        format!(
            r#"{{"syncTarget":{{"cluster":{},"name":{},"uid":{}}},"cluster":{},"namespace":{}}}"#,
            json!(target.cluster),
            json!(target.name),
            json!(target.uid),
            json!(self.cluster),
            json!(self.namespace),
        )
    }

    /// Reads a locator; `syncTarget.path` of older ones counts as `syncTarget.cluster`.
    ///
    /// # Errors
    /// If the text is not JSON of this shape.
    pub fn parse(text: &str) -> Result<Self, LocatorError> {
        let wire: LocatorWire = serde_json::from_str(text)?;
        let target = wire.sync_target;
        let cluster = if target.cluster.is_empty() {
            target.path
        } else {
            target.cluster
        };
        Ok(Self {
            sync_target: SyncTargetLocator {
                cluster,
                name: target.name,
                uid: target.uid,
            },
            cluster: wire.cluster,
            namespace: wire.namespace,
        })
    }
}

/// The member's namespace for an upstream namespace.
pub fn downstream_namespace(locator: &Locator) -> String {
    format!("kcp-{}", short36(&locator.to_json(), 12))
}

/// What all namespaces of one upstream workspace on one target have in common.
pub fn tenant_id(locator: &Locator) -> String {
    base62_sha224(
        &Locator {
            namespace: String::new(),
            ..locator.clone()
        }
        .to_json(),
    )
}

/// Name of the agent's namespace, ServiceAccount and Secret: `kcp-syncer-<target>-<hash>`.
///
/// As long as the target's name allows: see [`agent_namespace`] for one that is always a label.
pub fn agent_id(target: &str, uid: &str) -> String {
    format!("kcp-syncer-{target}-{}", short36(uid, 8))
}

/// The [`agent_id`] if it is a DNS-1123 label; else the same with the target's name cut and its
/// dots turned into dashes. Distinct for distinct uids either way.
pub fn agent_namespace(target: &str, uid: &str) -> String {
    let id = agent_id(target, uid);
    if id.len() <= LABEL_MAX && !id.contains('.') {
        return id;
    }
    let room = LABEL_MAX - "kcp-syncer-".len() - "-12345678".len();
    let cut: String = target.replace('.', "-").chars().take(room).collect();
    agent_id(cut.trim_matches('-'), uid)
}

/// Name of the DNS objects that serve one upstream workspace on a target.
pub fn dns_name(target: &str, uid: &str, cluster: &str) -> String {
    format!(
        "kcp-dns-{target}-{}-{}",
        short36(uid, 8),
        short36(cluster, 8)
    )
}

/// Name of the Placement that `bind compute` makes, from the texts of its parts.
pub fn bind_placement_name(
    namespace_selector: &str,
    location_selectors: &str,
    workspace: &str,
) -> String {
    let text = format!("{namespace_selector}{location_selectors}{workspace}");
    format!("placement-{}", short36(&text, 8))
}

/// Hash of a shard's name, as Workspaces carry it.
pub fn shard_hash(shard: &str) -> String {
    short36(shard, 8)
}

/// The logical cluster of a user's home workspace.
pub fn home_cluster(user: &str) -> String {
    base36(&Sha224::digest(user.as_bytes())[..8])
}

/// Name of the SyncTarget derived from a Cluster. Cut so that it stays a DNS-1123 subdomain for
/// every valid Cluster name.
pub fn derived_sync_target(namespace: &str, name: &str) -> String {
    format!("{name}-{}", short36(&format!("{namespace}/{name}"), 8))
}

/// Value of the decision-set label. Membership is (logical cluster, value), never the value alone.
pub fn decision_set(cluster: &str, placement_uid: &str) -> String {
    short36(&format!("{cluster}/{placement_uid}"), 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locator(namespace: &str) -> Locator {
        Locator {
            sync_target: SyncTargetLocator {
                cluster: "root:org:ws".into(),
                name: "us-west1".into(),
                uid: "syncTargetUID".into(),
            },
            cluster: "root:org:ws".into(),
            namespace: namespace.into(),
        }
    }

    #[test]
    fn the_sync_target_key_is_that_of_the_protocol() {
        assert_eq!(
            sync_target_key("root", "dp-8568db4"),
            "cKK89Yvux7z7kBVBj3oVPIY9VBlLrL97v8mjtz"
        );
    }

    #[test]
    fn the_downstream_namespace_is_that_of_the_protocol() {
        assert_eq!(
            locator("test").to_json(),
            r#"{"syncTarget":{"cluster":"root:org:ws","name":"us-west1","uid":"syncTargetUID"},"cluster":"root:org:ws","namespace":"test"}"#
        );
        assert_eq!(downstream_namespace(&locator("test")), "kcp-33jbiactwhg0");
    }

    #[test]
    fn base_62_and_36_write_integers_without_and_with_leading_zero_bytes() {
        assert_eq!(base62(&[]), "0");
        assert_eq!(base62(&[0, 0]), "0");
        assert_eq!(base62(&[61]), "Z");
        assert_eq!(base62(&[62]), "10");
        assert_eq!(base62(&[0, 1, 0]), "48");
        assert_eq!(base36(&[]), "");
        assert_eq!(base36(&[0, 0]), "00");
        assert_eq!(base36(&[0, 35]), "0z");
        assert_eq!(base36(&[36]), "10");
        assert_eq!(base36(&[1, 0]), "74");
    }

    #[test]
    fn a_locator_survives_writing_and_reading() {
        for namespace in ["", "test", "we\"ird\\n"] {
            let one = locator(namespace);
            assert_eq!(Locator::parse(&one.to_json()).unwrap(), one);
        }
    }

    #[test]
    fn an_old_locator_is_read_by_its_path_and_written_with_cluster() {
        let old = r#"{"syncTarget":{"path":"root:a","name":"n","uid":"u"},"cluster":"c","namespace":"x"}"#;
        let new = Locator::parse(old).unwrap();
        assert_eq!(new.sync_target.cluster, "root:a");
        assert_eq!(
            new.to_json(),
            r#"{"syncTarget":{"cluster":"root:a","name":"n","uid":"u"},"cluster":"c","namespace":"x"}"#
        );
    }

    #[test]
    fn a_malformed_locator_is_an_error() {
        for text in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"syncTarget":"x","cluster":"c"}"#,
        ] {
            assert!(Locator::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_tenant_id_ignores_the_namespace_but_not_the_workspace() {
        assert_eq!(tenant_id(&locator("a")), tenant_id(&locator("b")));
        let other = Locator {
            cluster: "other".into(),
            ..locator("a")
        };
        assert_ne!(tenant_id(&locator("a")), tenant_id(&other));
    }

    #[test]
    fn derived_names_have_the_shape_of_the_protocol() {
        assert!(agent_id("t", "uid").starts_with("kcp-syncer-t-"));
        assert_eq!(agent_id("t", "uid").len(), "kcp-syncer-t-".len() + 8);
        assert!(dns_name("t", "uid", "c").starts_with("kcp-dns-t-"));
        assert!(bind_placement_name("a", "b", "c").starts_with("placement-"));
        assert_eq!(shard_hash("root").len(), 8);
        assert_eq!(decision_set("root", "uid").len(), 16);
        assert!(home_cluster("user").len() <= 13);
        let derived = derived_sync_target("default", "east");
        assert!(derived.starts_with("east-") && derived.len() == 13);
        assert_ne!(derived, derived_sync_target("other", "east"));
    }

    #[test]
    fn an_agent_namespace_is_always_a_label_and_differs_by_uid() {
        assert_eq!(agent_namespace("t", "uid"), agent_id("t", "uid"));
        for name in [
            "a.b.c",
            &"x".repeat(253),
            "a.",
            &format!("{}.{}", "y".repeat(42), "z"),
        ] {
            let namespace = agent_namespace(name, "uid");
            assert!(namespace.len() <= 63, "{namespace}");
            assert!(
                !namespace.contains('.') && !namespace.contains("--"),
                "{namespace}"
            );
            assert_ne!(namespace, agent_namespace(name, "other"));
        }
    }
}
