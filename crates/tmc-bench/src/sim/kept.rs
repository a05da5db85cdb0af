//! Copies that are to go on running in a member whose SyncTarget goes (`keepWorkloads`).

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tmc_api::hashes::sync_target_key;
use tmc_api::keys::{STATE_SYNC, deletion_annotation, state_label};
use tmc_apimachinery::meta::meta;

use super::disk::Line;
use super::invariants::locator;
use super::snapshot::{InMember, Snapshot};

/// A copy, and when it was asked to stay.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// The member.
    member: String,
    resource: &'static str,
    /// Where it is there.
    namespace: String,
    name: String,
    /// The uid of its SyncTarget.
    target: String,
    /// The keys of its object and of that one's namespace in the hub's log.
    upstream: [String; 2],
    /// The hub's revision when it was asked for.
    since: u64,
}

/// What was asked to stay in a run.
pub(crate) type AllKept = Arc<Mutex<Vec<Kept>>>;

/// The copies that a member has of a SyncTarget, which from this revision on are to stay.
pub(crate) fn of_target(name: &str, member: &InMember, target: &str, since: u64) -> Vec<Kept> {
    let copies = member.work.iter().filter_map(|work| {
        let at = meta(&work.object);
        let mut homes = member.namespaces.iter();
        let home = homes.find(|home| meta(home).name() == at.namespace())?;
        let locator = locator(home).filter(|locator| locator.sync_target.uid == target)?;
        let group = match work.resource {
            "deployments" => "apps",
            _ => "core",
        };
        let (cluster, namespace) = (&locator.cluster, &locator.namespace);
        Some(Kept {
            member: name.to_owned(),
            resource: work.resource,
            namespace: at.namespace().to_owned(),
            name: at.name().to_owned(),
            target: target.to_owned(),
            upstream: [
                format!(
                    "{group}/{}/{cluster}/{namespace}/{}",
                    work.resource,
                    at.name()
                ),
                format!("core/namespaces/{cluster}//{namespace}"),
            ],
            since,
        })
    });
    copies.collect()
}

/// Those that are not in their member though nobody on the hub asked for their end while their
/// SyncTarget was there.
pub(crate) fn missing(kept: &[Kept], snapshot: &Snapshot, log: &[Line]) -> Vec<String> {
    let gone = kept.iter().filter(|kept| !is_there(kept, snapshot));
    let unasked = gone.filter(|kept| !was_asked_to_go(kept, log));
    unasked
        .map(|kept| {
            format!(
                "{}: {} {}/{} was to be kept and is gone",
                kept.member, kept.resource, kept.namespace, kept.name
            )
        })
        .collect()
}

fn is_there(kept: &Kept, snapshot: &Snapshot) -> bool {
    let member = snapshot.members.get(&kept.member);
    member.is_some_and(|member| {
        member.work.iter().any(|work| {
            let at = meta(&work.object);
            work.resource == kept.resource
                && (at.namespace(), at.name()) == (&*kept.namespace, &*kept.name)
        })
    })
}

/// Whether a user removed its object, or it was to leave the target before that was being deleted: by
/// its own marks, or by those of its namespace if a pass that had not seen the deletion marked it later.
fn was_asked_to_go(kept: &Kept, log: &[Line]) -> bool {
    let Some(end) = End::of(&kept.target, log) else {
        return true;
    };
    let [object, namespace] = &kept.upstream;
    end.asks(object, kept.since, log)
        || end.asks(namespace, kept.since, log) && end.marks(object, log)
}

/// The end of a SyncTarget as the log tells it.
struct End {
    /// Its SyncTargetKey.
    key: String,
    /// When it was being deleted.
    deleting: u64,
    /// When it was gone; never, so far, if at the end of the log.
    gone: u64,
}

impl End {
    fn of(uid: &str, log: &[Line]) -> Option<Self> {
        let mut end = None;
        for line in log {
            let Some((cluster, name)) = target_of(line) else {
                continue;
            };
            let object = object_of(line);
            let at = meta(&object);
            if at.uid() != uid || !(line.deleted || at.is_being_deleted()) {
                continue;
            }
            let end = end.get_or_insert_with(|| Self {
                key: sync_target_key(cluster, name),
                deleting: line.revision,
                gone: u64::MAX,
            });
            if line.deleted {
                end.gone = line.revision;
            }
        }
        end
    }

    /// Whether a key ever was to be removed from the target while that was there.
    fn marks(&self, key: &str, log: &[Line]) -> bool {
        let until_gone = log.iter().take_while(|line| line.revision <= self.gone);
        let mut states = until_gone.filter(|line| *line.key == *key);
        states.any(|line| {
            let mark = deletion_annotation(&self.key);
            meta(&object_of(line)).annotation(&mark).is_some()
        })
    }

    /// Whether what a key holds was asked to go, as the log has it since a revision, or since the
    /// target was being deleted if that was earlier: its marks may be gone again by then.
    fn asks(&self, key: &str, since: u64, log: &[Line]) -> bool {
        let until_gone = log.iter().take_while(|line| line.revision <= self.gone);
        let states = until_gone.filter(|line| *line.key == *key);
        let since = since.min(self.deleting);
        let (before, after): (Vec<_>, Vec<_>) = states.partition(|line| line.revision <= since);
        let mut relevant = before.last().into_iter().chain(&after);
        relevant.any(|line| {
            let object = object_of(line);
            let at = meta(&object);
            let leaves = at.label(&state_label(&self.key)) != Some(STATE_SYNC)
                || at.annotation(&deletion_annotation(&self.key)).is_some();
            line.deleted || at.is_being_deleted() || (leaves && line.revision <= self.deleting)
        })
    }
}

/// The uids of SyncTargets that were deleted with the word that their copies are to stay.
pub(crate) fn keepers(log: &[Line]) -> impl Iterator<Item = String> {
    let targets = log.iter().filter(|line| target_of(line).is_some());
    let targets = targets.map(object_of);
    let keepers = targets.filter(|target| {
        meta(target).is_being_deleted()
            && target.pointer("/spec/deletion/keepWorkloads") == Some(&Value::Bool(true))
    });
    keepers.map(|target| meta(&target).uid().to_owned())
}

/// Workspace and name of the SyncTarget that a line is about.
fn target_of(line: &Line) -> Option<(&str, &str)> {
    let path = line.key.strip_prefix("workload.kcp.io/synctargets/")?;
    path.split_once("//")
}

/// The object that a line is about: as it is, or as it was last.
fn object_of(line: &Line) -> Value {
    let bytes = match &line.before {
        Some(before) if line.deleted => before,
        _ => &line.value,
    };
    serde_json::from_slice(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::sim::snapshot::Work;

    const UPSTREAM: &str = "apps/deployments/team/shop/web";
    const NAMESPACE: &str = "core/namespaces/team//shop";

    fn line(revision: u64, key: &str, value: &Value) -> Line {
        Line {
            revision,
            key: key.into(),
            value: Bytes::from(value.to_string()),
            deleted: false,
            before: None,
        }
    }

    fn gone(revision: u64, key: &str, before: &Value) -> Line {
        Line {
            deleted: true,
            before: Some(Bytes::from(before.to_string())),
            ..line(revision, key, &Value::Null)
        }
    }

    fn object(state: &str, deleting: bool) -> Value {
        let key = sync_target_key("compute", "east-1");
        let mut object =
            json!({"metadata": {"name": "web", "labels": {(state_label(&key)): state}}});
        if deleting {
            object["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
        }
        object
    }

    fn marked() -> Value {
        let mut object = object("Sync", false);
        let mark = deletion_annotation(&sync_target_key("compute", "east-1"));
        object["metadata"]["annotations"][mark] = "2030-01-01T00:00:00Z".into();
        object
    }

    fn kept() -> Kept {
        Kept {
            member: "east".to_owned(),
            resource: "deployments",
            namespace: "kcp-1".to_owned(),
            name: "web".to_owned(),
            target: "t".to_owned(),
            upstream: [UPSTREAM.to_owned(), NAMESPACE.to_owned()],
            since: 10,
        }
    }

    /// A SyncTarget that is being deleted from revision 20 on and gone at 30.
    fn log(of_object: Vec<Line>) -> Vec<Line> {
        let target = json!({"metadata": {"name": "east-1", "uid": "t",
            "deletionTimestamp": "2030-01-01T00:00:00Z"},
            "spec": {"deletion": {"keepWorkloads": true}}});
        let key = "workload.kcp.io/synctargets/compute//east-1";
        let mut log = vec![line(20, key, &target), gone(30, key, &target)];
        log.extend(of_object);
        log.sort_by_key(|line| line.revision);
        log
    }

    #[rstest]
    #[case::nobody_asked(vec![line(5, UPSTREAM, &object("Sync", false))], true)]
    #[case::let_go_of_while_the_target_went(
        vec![line(5, UPSTREAM, &object("Sync", false)), line(25, UPSTREAM, &object("", false))], true)]
    #[case::removed_after_the_target_was_gone(
        vec![line(5, UPSTREAM, &object("Sync", false)), line(35, UPSTREAM, &object("", true))], true)]
    #[case::removed_by_a_user_while_it_went(
        vec![line(5, UPSTREAM, &object("Sync", false)), line(25, UPSTREAM, &object("Sync", true))], false)]
    #[case::on_its_way_out_before(vec![line(5, UPSTREAM, &object("Sync", true))], false)]
    #[case::moved_away_before(
        vec![line(5, UPSTREAM, &object("Sync", false)), line(15, UPSTREAM, &object("", false))], false)]
    #[case::gone_before(vec![gone(6, UPSTREAM, &object("Sync", false))], false)]
    #[case::its_namespace_was_to_leave_before(
        vec![line(5, UPSTREAM, &object("Sync", false)), line(15, NAMESPACE, &object("", false))], true)]
    #[case::it_was_marked_late_as_its_namespace_was_before(
        vec![line(5, UPSTREAM, &object("Sync", false)), line(15, NAMESPACE, &object("", false)),
             line(25, UPSTREAM, &marked())], false)]
    #[case::it_was_marked_late_on_its_own(
        vec![line(5, UPSTREAM, &object("Sync", false)), line(25, UPSTREAM, &marked())], true)]
    #[case::its_namespace_left_while_the_target_went(
        vec![line(5, UPSTREAM, &object("Sync", false)), line(4, NAMESPACE, &object("Sync", false)),
             line(25, NAMESPACE, &object("", false))], true)]
    fn a_copy_that_was_to_be_kept_is_missed_unless_it_was_asked_to_go(
        #[case] of_object: Vec<Line>,
        #[case] missed: bool,
    ) {
        let nothing = Snapshot::default();
        let wrong = missing(&[kept()], &nothing, &log(of_object));
        assert_eq!(!wrong.is_empty(), missed, "{wrong:?}");
    }

    #[test]
    fn a_copy_that_is_there_is_not_missed_and_its_target_is_known_to_have_left_it() {
        let copy = json!({"metadata": {"name": "web", "namespace": "kcp-1"}});
        let member = InMember {
            work: vec![Work {
                resource: "deployments",
                object: copy,
            }],
            ..InMember::default()
        };
        let mut there = Snapshot::default();
        there.members.insert("east".to_owned(), member);
        let log = log(vec![line(5, UPSTREAM, &object("Sync", false))]);
        assert_eq!(missing(&[kept()], &there, &log), Vec::<String>::new());
        assert!(keepers(&log).all(|uid| uid == "t"));
        assert_eq!(keepers(&log).count(), 2);
    }
}
