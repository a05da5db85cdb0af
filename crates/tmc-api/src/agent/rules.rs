//! RBAC rules, and what a review says of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tmc_apimachinery::{GroupResource, GroupVersionResource};

/// A policy rule, as in a (Cluster)Role and in a SelfSubjectRulesReview.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Groups, empty text for core.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Resources, `resource/subresource` for subresources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names of objects; none means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths that are no resources.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
    /// Verbs.
    pub verbs: Vec<String>,
}

fn sorted<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Vec<String> {
    let set: BTreeSet<String> = texts.into_iter().map(Into::into).collect();
    set.into_iter().collect()
}

impl Rule {
    /// A rule about resources of one group.
    pub fn on(group: &str, resources: &[&str], verbs: &[&str]) -> Self {
        Self {
            api_groups: vec![group.to_owned()],
            resources: sorted(resources.iter().copied()),
            verbs: sorted(verbs.iter().copied()),
            ..Self::default()
        }
    }

    /// The same for objects of these names only.
    pub fn named(mut self, names: &[&str]) -> Self {
        self.resource_names = sorted(names.iter().copied());
        self
    }

    /// A rule about paths.
    pub fn paths<T: Into<String>>(paths: impl IntoIterator<Item = T>, verbs: &[&str]) -> Self {
        Self {
            non_resource_urls: sorted(paths),
            verbs: sorted(verbs.iter().copied()),
            ..Self::default()
        }
    }
}

/// What a syncer does with objects that it syncs: it watches its copies, applies (which is a patch
/// that may create) and deletes them. `get` is for the one namespace that its watch cannot show.
pub const SYNC_VERBS: [&str; 6] = ["create", "delete", "get", "list", "patch", "watch"];

/// Core resources that every syncer has beside what it is asked to sync.
const BUILT_IN: [&str; 4] = ["configmaps", "namespaces", "secrets", "serviceaccounts"];

/// The rules of a syncer in its member: exactly the synced resources with exactly the verbs it uses,
/// nodes and pods for its report, discovery of what it syncs, and the review of its own rules. No wildcard.
/// Sorted; the order and repetitions of `synced` do not matter.
pub fn syncer_rules(synced: &[GroupVersionResource]) -> Vec<Rule> {
    let mut groups: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    groups.entry("").or_default().extend(BUILT_IN);
    for gvr in synced {
        groups.entry(&gvr.group).or_default().insert(&gvr.resource);
    }
    let mut rules: Vec<Rule> = groups
        .into_iter()
        .map(|(group, resources)| {
            Rule::on(
                group,
                &resources.into_iter().collect::<Vec<_>>(),
                &SYNC_VERBS,
            )
        })
        .collect();
    rules.push(Rule::on("", &["nodes"], &["get", "list"]));
    // Counted page by page; see what they request. What is in them the syncer does not keep.
    rules.push(Rule::on("", &["pods"], &["list"]));
    rules.push(Rule::on(
        "authorization.k8s.io",
        &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        &["create"],
    ));
    rules.push(Rule::paths(discovery_paths(synced), &["get"]));
    rules.sort();
    rules
}

/// The discovery documents of what is synced. Most members let everyone read all of them; a member
/// that does not shows the syncer these.
fn discovery_paths(synced: &[GroupVersionResource]) -> BTreeSet<String> {
    let mut paths: BTreeSet<String> = ["/api", "/api/v1", "/apis", "/version"]
        .map(str::to_owned)
        .into();
    for gvr in synced.iter().filter(|gvr| !gvr.group.is_empty()) {
        paths.insert(format!("/apis/{}", gvr.group));
        paths.insert(format!("/apis/{}/{}", gvr.group, gvr.version));
    }
    paths
}

/// One right: a verb on a resource or on a path. Printed as people say it: `patch deployments.apps`,
/// `get /version`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// On all objects of a resource.
    Resource {
        /// The verb.
        verb: String,
        /// The resource.
        resource: GroupResource,
    },
    /// On a path.
    Path {
        /// The verb.
        verb: String,
        /// The path.
        path: String,
    },
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Resource { verb, resource } => write!(f, "{verb} {resource}"),
            Self::Path { verb, path } => write!(f, "{verb} {path}"),
        }
    }
}

/// The rights that rules give, one by one, sorted; those on objects by name are not among them.
pub fn rights(rules: &[Rule]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in rules.iter().filter(|rule| rule.resource_names.is_empty()) {
        for verb in &rule.verbs {
            for group in &rule.api_groups {
                rights.extend(rule.resources.iter().map(|resource| Right::Resource {
                    verb: verb.clone(),
                    resource: GroupResource::new(group, resource),
                }));
            }
            rights.extend(rule.non_resource_urls.iter().map(|path| Right::Path {
                verb: verb.clone(),
                path: path.clone(),
            }));
        }
    }
    rights
}

/// The rights of `wanted` that `granted` does not give, sorted. `granted` is read as Kubernetes reads
/// it: `*` stands for everything, a path may end in `*`, a rule with names gives nothing here.
pub fn missing(wanted: &[Rule], granted: &[Rule]) -> Vec<Right> {
    let gives = |right: &Right| granted.iter().any(|rule| allows(rule, right));
    rights(wanted)
        .into_iter()
        .filter(|right| !gives(right))
        .collect()
}

fn allows(rule: &Rule, right: &Right) -> bool {
    let has = |list: &[String], text: &str| list.iter().any(|entry| entry == "*" || entry == text);
    match right {
        Right::Resource { verb, resource } => {
            rule.resource_names.is_empty()
                && has(&rule.verbs, verb)
                && has(&rule.api_groups, &resource.group)
                && has(&rule.resources, &resource.resource)
        }
        Right::Path { verb, path } => {
            let matches = |pattern: &String| match pattern.strip_suffix('*') {
                Some(start) => path.starts_with(start),
                None => pattern == path,
            };
            has(&rule.verbs, verb) && rule.non_resource_urls.iter().any(matches)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gvr(group: &str, version: &str, resource: &str) -> GroupVersionResource {
        GroupVersionResource::new(group, version, resource)
    }

    #[test]
    fn a_syncers_rules_name_exactly_what_it_syncs() {
        let rules = syncer_rules(&[gvr("apps", "v1", "deployments"), gvr("", "v1", "services")]);
        assert_eq!(
            serde_json::to_value(&rules).unwrap(),
            json!([
                {"nonResourceURLs": ["/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/version"],
                 "verbs": ["get"]},
                {"apiGroups": [""],
                 "resources": ["configmaps", "namespaces", "secrets", "serviceaccounts", "services"],
                 "verbs": ["create", "delete", "get", "list", "patch", "watch"]},
                {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]},
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
                {"apiGroups": ["apps"], "resources": ["deployments"],
                 "verbs": ["create", "delete", "get", "list", "patch", "watch"]},
                {"apiGroups": ["authorization.k8s.io"],
                 "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], "verbs": ["create"]},
            ])
        );
    }

    #[test]
    fn neither_order_nor_repetition_changes_them_and_nothing_is_a_wildcard() {
        let one = [gvr("batch", "v1", "jobs"), gvr("apps", "v1", "deployments")];
        let two = [one[1].clone(), one[0].clone(), one[1].clone()];
        assert_eq!(syncer_rules(&one), syncer_rules(&two));
        let text = serde_json::to_string(&syncer_rules(&one)).unwrap();
        assert!(!text.contains('*'), "{text}");
        for verb in ["escalate", "bind", "impersonate", "deletecollection"] {
            assert!(!text.contains(verb), "{text}");
        }
    }

    #[test]
    fn nothing_is_missing_from_the_rules_themselves_nor_from_everything() {
        let wanted = syncer_rules(&[gvr("apps", "v1", "deployments")]);
        assert_eq!(missing(&wanted, &wanted), []);
        let all = [Rule::on("*", &["*"], &["*"]), Rule::paths(["/*"], &["*"])];
        assert_eq!(missing(&wanted, &all), []);
    }

    #[test]
    fn what_is_missing_has_a_name() {
        let wanted = syncer_rules(&[gvr("apps", "v1", "deployments")]);
        let mut granted = wanted.clone();
        granted.retain(|rule| rule.api_groups != ["apps"]);
        granted.push(Rule::on(
            "apps",
            &["deployments"],
            &["get", "list", "watch", "create", "patch"],
        ));
        // A right on one object is not a right on all of them.
        granted.push(Rule::on("apps", &["deployments"], &["delete"]).named(&["web"]));
        granted.retain(|rule| rule.non_resource_urls.is_empty());
        granted.push(Rule::paths(["/api*", "/apis/*"], &["get"]));
        let names: Vec<String> = missing(&wanted, &granted)
            .iter()
            .map(Right::to_string)
            .collect();
        assert_eq!(names, ["delete deployments.apps", "get /version"]);
    }
}
