//! What is to be done about the syncer of a target, decided from what is seen of it.

use tmc_api::keys::SYNC_TARGET_FINALIZER;
use tmc_api::workload::{SyncTarget, SyncerMode};

use super::mode::{self, Part};
use crate::members::Member;

/// The way into a member, without the way itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Not looked at yet: after a restart it is known in a moment.
    Unknown,
    /// There is none.
    Unusable,
    /// As whom the Cluster was registered, and not yet as the syncer.
    Registered,
    /// As the syncer's own account, too.
    Account,
}

impl From<&Member> for Reach {
    fn from(member: &Member) -> Self {
        match member {
            Member::Unknown => Self::Unknown,
            Member::Unusable => Self::Unusable,
            Member::Usable { account: None, .. } => Self::Registered,
            Member::Usable { .. } => Self::Account,
        }
    }
}

/// Whether a target has our finalizer.
pub fn is_held(target: &SyncTarget) -> bool {
    let finalizers = target.metadata.finalizers.iter().flatten();
    finalizers
        .into_iter()
        .any(|name| name == SYNC_TARGET_FINALIZER)
}

/// The target with our finalizer. One on its way out gets none: nothing is made for it any more.
pub fn finalized(target: &SyncTarget) -> SyncTarget {
    let mut new = target.clone();
    if !is_held(target) && target.metadata.deletion_timestamp.is_none() {
        let finalizers = new.metadata.finalizers.get_or_insert_default();
        finalizers.push(SYNC_TARGET_FINALIZER.into());
    }
    new
}

/// Whether everything that was made for a target is removed, though it may still be there: somebody
/// else's finalizer may hold it for long.
pub fn is_over(target: &SyncTarget) -> bool {
    target.metadata.deletion_timestamp.is_some() && !is_held(target)
}

/// Whether the syncer is to have an account in the member now. Not before the mode is noted that has
/// one: whoever removes what was made goes by that note.
pub fn has_member_account(target: &SyncTarget) -> bool {
    let has = |mode: SyncerMode| mode::parts(mode).contains(&Part::MemberAccount);
    let modes = [mode::acting(target), mode::installed(target)];
    !is_over(target) && modes.into_iter().all(|mode| mode.is_some_and(has))
}

/// What becomes of the Hosted syncer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// It is to run.
    Run,
    /// It is not to run.
    Stop,
    /// Not decided: it goes on, or waits.
    Leave,
}

/// Decides on the Hosted syncer of a target whose syncer is of `mode`. `ended` says that it is not to run
/// any more, `has_cluster` that the Cluster exists, `has_url` that the hub knows where its views are.
pub fn task(
    mode: Option<SyncerMode>,
    ended: bool,
    has_cluster: bool,
    reach: Reach,
    has_url: bool,
) -> Task {
    if mode != Some(SyncerMode::Hosted) || ended || !has_cluster {
        return Task::Stop;
    }
    match reach {
        Reach::Account if has_url => Task::Run,
        Reach::Unusable => Task::Stop,
        Reach::Unknown | Reach::Registered | Reach::Account => Task::Leave,
    }
}

/// What is to be installed of a syncer that does not run in the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Install {
    /// Nothing, by this mode or any more.
    Nothing,
    /// It cannot be: no pod of the member would reach the hub.
    Refused,
    /// It has to wait for a way into the member.
    Waiting,
    /// Its account on the hub.
    OnHub,
    /// That, and what it is in the member.
    InMember,
}

/// Decides what is to be installed of a syncer of `mode`. `ended` says that it is not to run any more:
/// until then it is repaired, and gets new tokens, on the target's way out, too.
pub fn install(mode: Option<SyncerMode>, ended: bool, base_url: &str, reach: Reach) -> Install {
    let usable = matches!(reach, Reach::Registered | Reach::Account);
    match mode.filter(|_| !ended) {
        None | Some(SyncerMode::Hosted) => Install::Nothing,
        Some(SyncerMode::External) => Install::OnHub,
        Some(SyncerMode::Deployment) if mode::is_loopback(base_url) => Install::Refused,
        Some(SyncerMode::Deployment) if usable => Install::InMember,
        Some(SyncerMode::Deployment) => Install::Waiting,
    }
}

/// What is to be done about what a former mode has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Former {
    /// Nothing: there was none, or the removal of the target removes it.
    Nothing,
    /// Wait until it is known how to get into the member.
    Wait,
    /// Remove these parts.
    Remove(Vec<Part>),
}

/// Decides on what a former mode has left. `has_cluster` says that the target names a Cluster,
/// `visited` that somebody is in its member, who may still be making what is to be removed.
pub fn former(
    installed: Option<SyncerMode>,
    wanted: SyncerMode,
    leaving: bool,
    (has_cluster, visited): (bool, bool),
    reach: Reach,
) -> Former {
    match installed.filter(|installed| *installed != wanted) {
        None => Former::Nothing,
        Some(_) if leaving => Former::Nothing,
        Some(_) if visited || reach == Reach::Unknown && has_cluster => Former::Wait,
        Some(installed) => Former::Remove(mode::obsolete(installed, wanted)),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    const OURS: &str = "workload.kcp.io/synctarget";

    #[rstest]
    #[case::new(json!({}), json!([OURS]), false)]
    #[case::with_another(json!({"finalizers": ["x/y"]}), json!(["x/y", OURS]), false)]
    #[case::held(json!({"finalizers": [OURS]}), json!([OURS]), false)]
    #[case::leaving(
        json!({"finalizers": [OURS], "deletionTimestamp": "2030-01-01T00:00:00Z"}), json!([OURS]), false)]
    #[case::over(
        json!({"finalizers": ["x/y"], "deletionTimestamp": "2030-01-01T00:00:00Z"}), json!(["x/y"]), true)]
    fn a_target_gets_the_finalizer_once_and_never_on_its_way_out(
        #[case] metadata: Value,
        #[case] finalizers: Value,
        #[case] over: bool,
    ) {
        let target = SyncTarget {
            metadata: serde_json::from_value(metadata).unwrap(),
            ..SyncTarget::default()
        };
        let new = finalized(&target);
        assert_eq!(json!(new.metadata.finalizers), finalizers);
        assert_eq!(finalized(&new), new);
        assert_eq!(is_over(&target), over);
        let rest = |target: &SyncTarget| {
            let mut target = target.clone();
            target.metadata.finalizers = None;
            target
        };
        assert_eq!(rest(&new), rest(&target), "nothing else is in that write");
    }

    #[rstest]
    #[case::hosted(SyncerMode::Hosted, Some("Hosted"), true)]
    #[case::deployment(SyncerMode::Deployment, Some("Deployment"), true)]
    #[case::from_one_to_the_other(SyncerMode::Deployment, Some("Hosted"), true)]
    #[case::external(SyncerMode::External, Some("External"), false)]
    #[case::not_any_more(SyncerMode::External, Some("Hosted"), false)]
    #[case::not_yet(SyncerMode::Hosted, Some("External"), false)]
    #[case::not_noted(SyncerMode::Hosted, None, false)]
    fn an_account_in_the_member_is_made_once_the_mode_is_noted_that_has_one(
        #[case] wanted: SyncerMode,
        #[case] noted: Option<&str>,
        #[case] expected: bool,
    ) {
        let mut target = SyncTarget::default();
        target.spec.syncer_config.get_or_insert_default().mode = Some(wanted);
        target.metadata.annotations =
            noted.map(|noted| [(mode::MODE_ANNOTATION.to_owned(), noted.to_owned())].into());
        assert_eq!(has_member_account(&target), expected);
        target.metadata.deletion_timestamp =
            serde_json::from_value(json!("2030-01-01T00:00:00Z")).unwrap();
        assert!(!has_member_account(&target), "nothing holds it");
        target.metadata.finalizers = Some(vec![SYNC_TARGET_FINALIZER.into()]);
        let made = matches!(noted, Some("Hosted" | "Deployment"));
        assert_eq!(has_member_account(&target), made, "its syncer works on");
    }

    #[rstest]
    #[case::runs(SyncerMode::Hosted, false, true, Reach::Account, true, Task::Run)]
    #[case::no_url_yet(SyncerMode::Hosted, false, true, Reach::Account, false, Task::Leave)]
    #[case::no_account_yet(SyncerMode::Hosted, false, true, Reach::Registered, true, Task::Leave)]
    #[case::not_looked_at_yet(SyncerMode::Hosted, false, true, Reach::Unknown, true, Task::Leave)]
    #[case::no_credential(SyncerMode::Hosted, false, true, Reach::Unusable, true, Task::Stop)]
    #[case::no_cluster(SyncerMode::Hosted, false, false, Reach::Account, true, Task::Stop)]
    #[case::ended(SyncerMode::Hosted, true, true, Reach::Account, true, Task::Stop)]
    #[case::deployment(SyncerMode::Deployment, false, true, Reach::Account, true, Task::Stop)]
    #[case::external(SyncerMode::External, false, true, Reach::Account, true, Task::Stop)]
    fn a_task_runs_in_mode_hosted_alone_and_stops_when_its_way_is_closed(
        #[case] mode: SyncerMode,
        #[case] ended: bool,
        #[case] has_cluster: bool,
        #[case] reach: Reach,
        #[case] has_url: bool,
        #[case] expected: Task,
    ) {
        assert_eq!(
            task(Some(mode), ended, has_cluster, reach, has_url),
            expected
        );
    }

    const FAR: &str = "https://hub:6443";
    const NEAR: &str = "https://127.0.0.1:6443";

    #[rstest]
    #[case::in_member(SyncerMode::Deployment, false, FAR, Reach::Account, Install::InMember)]
    #[case::before_the_account(
        SyncerMode::Deployment,
        false,
        FAR,
        Reach::Registered,
        Install::InMember
    )]
    #[case::no_credential(SyncerMode::Deployment, false, FAR, Reach::Unusable, Install::Waiting)]
    #[case::not_looked_at(SyncerMode::Deployment, false, FAR, Reach::Unknown, Install::Waiting)]
    #[case::loopback(SyncerMode::Deployment, false, NEAR, Reach::Account, Install::Refused)]
    #[case::ended(SyncerMode::Deployment, true, FAR, Reach::Account, Install::Nothing)]
    #[case::external(SyncerMode::External, false, NEAR, Reach::Unusable, Install::OnHub)]
    #[case::external_ended(SyncerMode::External, true, FAR, Reach::Unusable, Install::Nothing)]
    #[case::hosted(SyncerMode::Hosted, false, FAR, Reach::Account, Install::Nothing)]
    fn each_mode_installs_its_own_and_nothing_once_the_syncer_is_to_end(
        #[case] mode: SyncerMode,
        #[case] ended: bool,
        #[case] url: &str,
        #[case] reach: Reach,
        #[case] expected: Install,
    ) {
        assert_eq!(install(Some(mode), ended, url, reach), expected);
        assert_eq!(install(None, ended, url, reach), Install::Nothing);
    }

    const CLUSTER: (bool, bool) = (true, false);
    const HOSTED: Option<SyncerMode> = Some(SyncerMode::Hosted);

    #[rstest]
    #[case::first(
        None,
        SyncerMode::Hosted,
        false,
        CLUSTER,
        Reach::Account,
        Former::Nothing
    )]
    #[case::same(
        HOSTED,
        SyncerMode::Hosted,
        false,
        CLUSTER,
        Reach::Account,
        Former::Nothing
    )]
    #[case::other(
        HOSTED, SyncerMode::External, false, CLUSTER, Reach::Account,
        Former::Remove(vec![Part::Task, Part::MemberAccount]))]
    #[case::member_gone(
        Some(SyncerMode::Deployment), SyncerMode::External, false, CLUSTER, Reach::Unusable,
        Former::Remove(vec![Part::MemberAccount, Part::Workload]))]
    #[case::after_a_restart(
        HOSTED,
        SyncerMode::External,
        false,
        CLUSTER,
        Reach::Unknown,
        Former::Wait
    )]
    #[case::in_the_member(
        HOSTED,
        SyncerMode::External,
        false,
        (true, true),
        Reach::Account,
        Former::Wait
    )]
    #[case::no_cluster(
        Some(SyncerMode::External), SyncerMode::Hosted, false, (false, false), Reach::Unknown,
        Former::Remove(vec![Part::HubAccount]))]
    #[case::leaving(
        HOSTED,
        SyncerMode::External,
        true,
        CLUSTER,
        Reach::Account,
        Former::Nothing
    )]
    fn what_a_former_mode_left_is_removed_once_it_is_known_how_and_nobody_makes_it_anew(
        #[case] installed: Option<SyncerMode>,
        #[case] wanted: SyncerMode,
        #[case] leaving: bool,
        #[case] cluster: (bool, bool),
        #[case] reach: Reach,
        #[case] expected: Former,
    ) {
        let found = former(installed, wanted, leaving, cluster, reach);
        assert_eq!(found, expected);
    }
}
