//! What removed SyncTargets have left in their clusters, from the hub's records of it.

use jiff::Timestamp;
use serde_json::Value;
use tmc_api::agent::{AgentId, removal_order};
use tmc_api::keys::DOWNSTREAM_CLUSTER_LABEL;
use tmc_apimachinery::definition::NameRule;
use tmc_apimachinery::meta::{meta, validate_label_value, validate_name};

use super::findings::{Finding, Here};
use crate::output::{ago, text, time};

/// One finding for each record: what was removed, what may be left, how to find and to end it.
pub(super) fn tombstones(config_maps: &[Value], here: &Here, now: Timestamp) -> Vec<Finding> {
    let one = |record| finding(record, here, now);
    config_maps.iter().map(one).collect()
}

fn finding(record: &Value, here: &Here, now: Timestamp) -> Finding {
    let prefix = here.prefix(record);
    let workspace = match prefix.trim_end_matches('/') {
        "" => String::new(),
        workspace => format!(" of workspace {workspace}"),
    };
    let (namespace, name) = (meta(record).namespace(), meta(record).name());
    let end = format!("delete ConfigMap {name} in namespace {namespace}{workspace}");
    let Some(removal) = Removal::of(record) else {
        let said = "is no record of a removal that this version can read";
        let remedy = format!("look at it; when nothing is left of it in a cluster, {end}");
        return Finding::note(format!("configmap {prefix}{name}"), said, remedy);
    };
    Finding::note(
        format!("synctarget {prefix}{}", removal.target),
        removal.words(now),
        format!(
            "in the cluster, {} and delete what that shows; when it is cleaned up, {end}",
            removal.commands()
        ),
    )
}

/// What a record says. Whoever may write ConfigMaps may have written it where nothing guards its
/// label, so that only what cannot be anything but a name gets into a command.
struct Removal<'a> {
    target: &'a str,
    uid: &'a str,
    key: &'a str,
    /// Of its Cluster; empty if it had none.
    cluster: &'a str,
    at: Option<Timestamp>,
    forced: bool,
    /// How many objects were let go; `None` if nobody knew.
    objects: Option<u64>,
}

impl<'a> Removal<'a> {
    fn of(record: &'a Value) -> Option<Self> {
        let is_name = |text: &&str| validate_label_value("data", text).is_empty();
        let field = |pointer| Some(text(record, pointer)).filter(is_name);
        let required = |pointer| field(pointer).filter(|text| !text.is_empty());
        let is_object = |name: &&str| validate_name("data", name, NameRule::Subdomain).is_empty();
        let object = |pointer| Some(text(record, pointer)).filter(is_object);
        Some(Self {
            target: object("/data/syncTarget")?,
            uid: required("/data/uid")?,
            key: required("/data/key")?,
            cluster: match text(record, "/data/cluster") {
                "" => "",
                _ => object("/data/cluster")?,
            },
            at: time(record, "/data/at"),
            forced: text(record, "/data/reason") == "ForcedRemoval",
            objects: text(record, "/data/objects").parse().ok(),
        })
    }

    fn words(&self, now: Timestamp) -> String {
        let since = self.at.map(|at| format!(" {} ago", ago(at, now)));
        let since = since.unwrap_or_default();
        let whose = match self.cluster {
            "" => "its cluster".to_owned(),
            cluster => format!("its cluster {cluster}"),
        };
        if !self.forced {
            return format!(
                "was removed{since}; what {whose} had for its syncer may be left there"
            );
        }
        let copies = match self.objects {
            None => "copies".to_owned(),
            Some(1) => "copies of 1 object".to_owned(),
            Some(count) => format!("copies of {count} objects"),
        };
        format!("was removed by force{since}; {copies} and its syncer may be left in {whose}")
    }

    fn commands(&self) -> String {
        let kinds = removal_order().map(|kind| kind.resource).join(",");
        let syncer = AgentId::new("", self.target, self.uid).selector();
        let kubectl = "kubectl --kubeconfig <the cluster's> get";
        format!(
            "run `{kubectl} namespaces -l {DOWNSTREAM_CLUSTER_LABEL}={}` for copies, `{kubectl} {kinds} \
             -A -l {syncer}` for its syncer,",
            self.key
        )
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::commands::doctor::findings::Mark;
    use crate::context::Flags;

    fn record() -> Value {
        json!({
            "metadata": {
                "name": "tombstone-u-1", "namespace": "default",
                "annotations": {"kcp.io/cluster": "c", "kcp.io/path": "root:compute"},
            },
            "data": {
                "syncTarget": "east", "uid": "u-1", "key": "KEY", "cluster": "east-1",
                "reason": "ForcedRemoval", "objects": "3", "message": "m",
                "at": "2030-01-01T00:55:00Z",
            },
        })
    }

    fn found(record: &Value, workspace: &str) -> Finding {
        let here = Here {
            workspace: workspace.to_owned(),
            flags: Flags(None),
        };
        let now = "2030-01-01T01:00:00Z".parse().expect("a time");
        tombstones(std::slice::from_ref(record), &here, now).remove(0)
    }

    #[test]
    fn a_record_says_what_may_be_left_how_to_find_it_and_how_to_end_the_warning() {
        let finding = found(&record(), "root");
        assert_eq!(finding.mark, Mark::Note);
        assert_eq!(finding.about, "synctarget root:compute/east");
        assert_eq!(
            finding.text,
            "was removed by force 5m ago; copies of 3 objects and its syncer may be left in its cluster \
             east-1"
        );
        for part in [
            "get namespaces -l internal.workload.kcp.io/cluster=KEY`",
            "get deployments,secrets,",
            "synctarget-uid=u-1`",
        ] {
            assert!(finding.remedy.contains(part), "{part}: {finding:?}");
        }
        let end = "delete ConfigMap tombstone-u-1 in namespace default of workspace root:compute";
        assert!(finding.remedy.ends_with(end), "{finding:?}");
    }

    #[test]
    fn on_a_hub_without_workspaces_none_is_named() {
        let mut bare = record();
        bare["metadata"]["annotations"] = json!({});
        let finding = found(&bare, "root");
        assert_eq!(finding.about, "synctarget east");
        assert!(finding.remedy.ends_with("in namespace default"));
    }

    #[rstest]
    #[case::left_behind(
        "reason",
        "LeftBehind",
        "was removed 5m ago; what its cluster east-1 had"
    )]
    #[case::not_counted("objects", "unknown", "5m ago; copies and its syncer")]
    #[case::one("objects", "1", "copies of 1 object and")]
    #[case::no_cluster("cluster", "", "may be left in its cluster")]
    #[case::no_time("at", "yesterday", "was removed by force; copies")]
    fn a_record_is_told_as_it_is(#[case] field: &str, #[case] value: &str, #[case] says: &str) {
        let mut other = record();
        other["data"][field] = value.into();
        let finding = found(&other, "root");
        assert!(finding.text.contains(says), "{finding:?}");
    }

    #[rstest]
    #[case("uid", "u; rm -rf /")]
    #[case("uid", "")]
    #[case("key", "K`x`")]
    #[case("syncTarget", "\u{1b}[2J")]
    #[case("cluster", "a\nb")]
    fn no_command_and_no_word_comes_from_a_record_that_is_forged(
        #[case] field: &str,
        #[case] value: &str,
    ) {
        let mut forged = record();
        forged["data"][field] = value.into();
        let finding = found(&forged, "root:compute");
        assert_eq!(finding.about, "configmap tombstone-u-1");
        let told = format!("{}{}", finding.text, finding.remedy);
        assert!(value.is_empty() || !told.contains(value), "{finding:?}");
        assert!(!told.contains("kubectl"), "{finding:?}");
    }
}
