//! What each mode of a syncer has, and where.

use tmc_api::workload::{SyncTarget, SyncerMode};

/// Annotation of a SyncTarget: the mode for which things were last made. Written before anything is
/// made, so that whoever takes over knows what to remove.
pub const MODE_ANNOTATION: &str = "tmc.kcp.io/syncer-mode";

/// Something that a syncer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A task of the hub.
    Task,
    /// Account, rights and namespace in the member, made by the hub.
    MemberAccount,
    /// Credential and Deployment in the member, made by the hub.
    Workload,
    /// An account on the hub.
    HubAccount,
}

/// What a syncer of a mode has that the hub made. Of External, what is in the member is its owner's.
pub fn parts(mode: SyncerMode) -> &'static [Part] {
    match mode {
        SyncerMode::Hosted => &[Part::Task, Part::MemberAccount],
        SyncerMode::Deployment => &[Part::MemberAccount, Part::Workload, Part::HubAccount],
        SyncerMode::External => &[Part::HubAccount],
    }
}

/// What one mode had that another has not.
pub fn obsolete(from: SyncerMode, to: SyncerMode) -> Vec<Part> {
    let kept = parts(to);
    let had = parts(from).iter();
    had.filter(|part| !kept.contains(part)).copied().collect()
}

/// The mode for which things were last made.
pub fn installed(target: &SyncTarget) -> Option<SyncerMode> {
    let annotations = target.metadata.annotations.as_ref()?;
    let text = annotations.get(MODE_ANNOTATION)?;
    [
        SyncerMode::Hosted,
        SyncerMode::Deployment,
        SyncerMode::External,
    ]
    .into_iter()
    .find(|mode| mode.as_str() == text)
}

/// The mode whose syncer serves a target. On its way out that is the one for which things were last made,
/// whatever the spec asks for by now: nothing else can remove the copies, and nothing new is made.
pub fn acting(target: &SyncTarget) -> Option<SyncerMode> {
    match target.metadata.deletion_timestamp {
        Some(_) => installed(target),
        None => Some(target.spec.mode()),
    }
}

/// The target with the mode noted for which things are made from now on.
pub fn noted(target: &SyncTarget, mode: SyncerMode) -> SyncTarget {
    let mut new = target.clone();
    let annotations = new.metadata.annotations.get_or_insert_default();
    annotations.insert(MODE_ANNOTATION.into(), mode.as_str().to_owned());
    new
}

/// Whether nobody but the hub's own machine can reach a URL.
pub fn is_loopback(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    match host.parse::<std::net::IpAddr>() {
        Ok(ip) => ip.is_loopback() || ip.is_unspecified(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(SyncerMode::Deployment, SyncerMode::Hosted, &[Part::Workload, Part::HubAccount])]
    #[case(SyncerMode::Deployment, SyncerMode::External, &[Part::MemberAccount, Part::Workload])]
    #[case(SyncerMode::Hosted, SyncerMode::Deployment, &[Part::Task])]
    #[case(SyncerMode::Hosted, SyncerMode::External, &[Part::Task, Part::MemberAccount])]
    #[case(SyncerMode::External, SyncerMode::Hosted, &[Part::HubAccount])]
    #[case(SyncerMode::External, SyncerMode::Deployment, &[])]
    #[case(SyncerMode::Hosted, SyncerMode::Hosted, &[])]
    fn a_change_of_mode_removes_what_the_new_one_has_not(
        #[case] from: SyncerMode,
        #[case] to: SyncerMode,
        #[case] expected: &[Part],
    ) {
        assert_eq!(obsolete(from, to), expected);
    }

    #[test]
    fn the_mode_is_noted_and_read_back() {
        let target = SyncTarget::default();
        assert_eq!(installed(&target), None);
        let noted = noted(&target, SyncerMode::Deployment);
        assert_eq!(installed(&noted), Some(SyncerMode::Deployment));
    }

    #[rstest]
    #[case::asked_for(None, false, Some(SyncerMode::External))]
    #[case::being_changed(Some(SyncerMode::Hosted), false, Some(SyncerMode::External))]
    #[case::leaving(Some(SyncerMode::Hosted), true, Some(SyncerMode::Hosted))]
    #[case::leaving_before_anything_was_made(None, true, None)]
    fn on_its_way_out_a_target_keeps_the_syncer_that_it_has(
        #[case] noted_mode: Option<SyncerMode>,
        #[case] leaving: bool,
        #[case] expected: Option<SyncerMode>,
    ) {
        let mut target = SyncTarget::default();
        target.spec.syncer_config.get_or_insert_default().mode = Some(SyncerMode::External);
        if let Some(mode) = noted_mode {
            target = noted(&target, mode);
        }
        if leaving {
            let at = serde_json::json!("2030-01-01T00:00:00Z");
            target.metadata.deletion_timestamp = serde_json::from_value(at).unwrap();
        }
        assert_eq!(acting(&target), expected);
    }

    #[rstest]
    #[case("https://127.0.0.1:6443", true)]
    #[case("https://[::1]:6443/x", true)]
    #[case("https://localhost", true)]
    #[case("https://a.localhost:1", true)]
    #[case("https://0.0.0.0:6443", true)]
    #[case("https://10.0.0.1:6443", false)]
    #[case("https://hub.example.com", false)]
    #[case("https://localhost.example.com", false)]
    #[case("", false)]
    fn a_loopback_url_is_recognised(#[case] url: &str, #[case] expected: bool) {
        assert_eq!(is_loopback(url), expected);
    }
}
