//! Tokens of agents' accounts. An agent reads what every tenant placed on its target, so the right
//! to ask for tokens of accounts (which the role `edit` has) is not enough to get one of its.

use serde_json::Value;
use tmc_api::agent::hub::NAMESPACE;
use tmc_api::keys::{AGENT_OWNER_ANNOTATION, AGENT_UID_LABEL};
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::status::{ApiError, Cause, Result};
use tmc_apimachinery::user::{Attributes, Decision, ResourceTarget, Target, UserInfo};
use tmc_apimachinery::{ClusterScope, GroupResource};

use super::claims::user_name;
use super::request::service_accounts;
use crate::rbac::identity_in;
use crate::storage::{Core, Layout, Place};

/// The longest life of a token of an agent: what is stolen ends soon.
pub(super) const MAX_SECONDS: i64 = 24 * 3600;

/// The SyncTarget whose agent an object was made for, if it was made for one. Both keys are
/// reserved: users neither set nor remove them. One that does not say which target has the name "",
/// which only a right to all targets covers.
fn target_of(object: &Value) -> Option<String> {
    let object = meta(object);
    object.label(AGENT_UID_LABEL)?;
    let owner = object.annotation(AGENT_OWNER_ANNOTATION);
    let name = owner.and_then(|owner| owner.split('/').nth(1));
    Some(name.unwrap_or_default().to_owned())
}

/// Whether a user is an account of this name and uid, in the account's own workspace.
fn is_account(user: &UserInfo, place: &Place, account: &Value) -> bool {
    let account = meta(account);
    let here = identity_in(user, &place.cluster);
    here.is_some_and(|user| {
        user.name == user_name(&place.namespace, account.name()) && user.uid == account.uid()
    })
}

/// Why an agent's token may not be meant for these audiences, if so: the hub must be the only one
/// that believes it.
pub(super) fn check_audiences(audiences: &[String], own: &str) -> Result<(), Cause> {
    match audiences.iter().find(|audience| *audience != own) {
        None => Ok(()),
        Some(other) => {
            let why = format!(
                "a token of an agent's account is for the hub only: leave the audiences out, or \
                 name {own}"
            );
            let value = other.as_str().into();
            Err(Cause::invalid("spec.audiences", &value, why))
        }
    }
}

impl Core {
    /// The SyncTarget whose agent an account is, if it is one. An account that was made again by hand
    /// under an agent's name has the agent's rights without its label: there the binding tells.
    pub(super) fn agent_target(&self, place: &Place, account: &Value) -> Option<String> {
        // A plain cluster is a member: it has accounts of agents, and no targets.
        if self.layout == Layout::Plain {
            return None;
        }
        let bound = || {
            let bindings = GroupResource::new("rbac.authorization.k8s.io", "clusterrolebindings");
            let binding = self.read(&bindings, &place.cluster, "", meta(account).name())?;
            target_of(&binding).filter(|_| place.namespace == NAMESPACE)
        };
        target_of(account).or_else(bound)
    }

    /// Lets pass who gains nothing by a token of an agent's account: the account itself, and whoever
    /// may do what the agent does.
    pub(super) fn check_agent(&self, place: &Place, account: &Value, target: &str) -> Result<()> {
        let sync = sync_attributes(place, target);
        if is_account(&place.user, place, account) || self.review_access(&sync) == Decision::Allow {
            return Ok(());
        }
        let why = format!(
            "this is the account of an agent: its tokens are given to the account itself and to \
             users who are allowed the verb \"sync\" on synctargets.workload.kcp.io \"{target}\""
        );
        let name = meta(account).name();
        Err(ApiError::forbidden(&service_accounts(), name, &why))
    }
}

fn sync_attributes(place: &Place, target: &str) -> Attributes {
    Attributes {
        user: (*place.user).clone(),
        cluster: ClusterScope::One(place.cluster.clone()),
        verb: "sync".into(),
        target: Target::Resource(ResourceTarget {
            group: tmc_api::workload::GROUP.into(),
            version: "v1alpha1".into(),
            resource: "synctargets".into(),
            name: target.to_owned(),
            ..ResourceTarget::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::agent(json!({"labels": {AGENT_UID_LABEL: "u"},
        "annotations": {AGENT_OWNER_ANNOTATION: "abc/east/u"}}), Some("east"))]
    #[case::of_no_target(json!({"labels": {AGENT_UID_LABEL: "u"}}), Some(""))]
    #[case::of_nonsense(json!({"labels": {AGENT_UID_LABEL: "u"},
        "annotations": {AGENT_OWNER_ANNOTATION: "east"}}), Some(""))]
    #[case::nobodys(json!({"annotations": {AGENT_OWNER_ANNOTATION: "abc/east/u"}}), None)]
    fn an_agents_account_names_its_target(#[case] metadata: Value, #[case] target: Option<&str>) {
        let found = target_of(&json!({"metadata": metadata}));
        assert_eq!(found.as_deref(), target);
    }

    #[rstest]
    #[case::default(&[], true)]
    #[case::hub(&["hub"], true)]
    #[case::another(&["vault"], false)]
    #[case::hub_and_another(&["hub", "vault"], false)]
    fn an_agents_token_is_for_the_hub_only(#[case] audiences: &[&str], #[case] fine: bool) {
        let audiences: Vec<String> = audiences.iter().map(ToString::to_string).collect();
        let found = check_audiences(&audiences, "hub");
        assert_eq!(found.is_ok(), fine);
        assert!(found.is_ok() || found.is_err_and(|cause| cause.field == "spec.audiences"));
    }
}
