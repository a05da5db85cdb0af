//! Nobody grants what they do not hold (`rbac/v1` escalation prevention): writing a role needs its
//! rules or verb `escalate`, writing a binding the rules of the role it names or verb `bind`.

use serde_json::Value;
use tmc_apimachinery::ClusterScope;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::status::{ApiError, Result};
use tmc_apimachinery::user::{Attributes, ResourceTarget, Target};

use super::rules::{Rule, uncovered};
use super::{GROUP, bootstrap, is_privileged};
use crate::storage::{Core, Place};

/// Refuses a role or binding that gives more than its writer has. Other kinds pass.
pub(crate) fn check(core: &Core, place: &Place, object: &Value) -> Result<()> {
    if place.definition.gvk.group != GROUP {
        return Ok(());
    }
    let name = meta(object).name();
    if place.definition.gvk.kind == "ClusterRole" && bootstrap::cluster_role(name).is_some() {
        let why = "this role is built in and cannot be replaced; choose another name";
        return Err(ApiError::forbidden(&place.resource(), name, why));
    }
    if is_privileged(&place.user) {
        return Ok(());
    }
    let (wanted, verb, role, role_name) = match place.definition.gvk.kind.as_str() {
        "Role" | "ClusterRole" => (
            Rule::list(&object["rules"]),
            "escalate",
            place.definition.plural.clone(),
            name,
        ),
        "RoleBinding" | "ClusterRoleBinding" => {
            let kind = object["roleRef"]["kind"].as_str().unwrap_or_default();
            let role_name = object["roleRef"]["name"].as_str().unwrap_or_default();
            let plural = if kind == "Role" {
                "roles"
            } else {
                "clusterroles"
            };
            let rules = core
                .role_rules(&place.cluster, kind, &place.namespace, role_name)
                .ok_or_else(|| {
                    ApiError::not_found(
                        &tmc_apimachinery::GroupResource::new(GROUP, plural),
                        role_name,
                    )
                })?;
            (rules.to_vec(), "bind", plural.to_owned(), role_name)
        }
        _ => return Ok(()),
    };
    let attributes = Attributes {
        user: (*place.user).clone(),
        cluster: ClusterScope::One(place.cluster.clone()),
        verb: verb.to_owned(),
        target: Target::Resource(ResourceTarget {
            group: GROUP.into(),
            version: "v1".into(),
            resource: role,
            namespace: place.namespace.clone(),
            name: role_name.to_owned(),
            ..ResourceTarget::default()
        }),
    };
    if core.rbac.permits(core, &place.cluster, &attributes) {
        return Ok(());
    }
    let held = core
        .rbac
        .rules_for(core, &place.cluster, &place.user, &place.namespace);
    let held: Vec<Rule> = held
        .iter()
        .flat_map(|rules| rules.iter().cloned())
        .collect();
    let missing = uncovered(&held, &wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = missing
        .iter()
        .map(|rule| rule.to_value().to_string())
        .collect();
    let why = format!(
        "user \"{}\" is attempting to grant RBAC permissions not currently held: {}",
        place.user.name,
        list.join("; ")
    );
    Err(ApiError::forbidden(&place.resource(), name, &why))
}
