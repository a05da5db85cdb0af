//! One policy rule: what it permits and what it covers (`rbac/v1` PolicyRule).

use serde_json::{Value, json};
use tmc_apimachinery::user::{Attributes, ResourceTarget, Target};

/// A policy rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    pub verbs: Vec<String>,
    pub groups: Vec<String>,
    pub resources: Vec<String>,
    pub names: Vec<String>,
    pub paths: Vec<String>,
}

impl Rule {
    /// Reads `rules`.
    pub(crate) fn list(rules: &Value) -> Vec<Self> {
        let texts = |value: &Value| -> Vec<String> {
            let list = value.as_array().into_iter().flatten();
            list.filter_map(|v| v.as_str().map(str::to_owned)).collect()
        };
        let rule = |value: &Value| Self {
            verbs: texts(&value["verbs"]),
            groups: texts(&value["apiGroups"]),
            resources: texts(&value["resources"]),
            names: texts(&value["resourceNames"]),
            paths: texts(&value["nonResourceURLs"]),
        };
        rules.as_array().into_iter().flatten().map(rule).collect()
    }

    /// The rule as SelfSubjectRulesReview prints it.
    pub(crate) fn to_value(&self) -> Value {
        let mut value = json!({"verbs": self.verbs});
        for (key, list) in [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.paths),
        ] {
            if !list.is_empty() {
                value[key] = json!(list);
            }
        }
        value
    }

    pub(crate) fn permits(&self, attributes: &Attributes) -> bool {
        holds(&self.verbs, &attributes.verb)
            && match &attributes.target {
                Target::Path(path) => self.paths.iter().any(|p| path_matches(p, path)),
                Target::Resource(target) => self.permits_resource(target),
            }
    }

    fn permits_resource(&self, target: &ResourceTarget) -> bool {
        let resource = if target.subresource.is_empty() {
            target.resource.clone()
        } else {
            format!("{}/{}", target.resource, target.subresource)
        };
        holds(&self.groups, &target.group)
            && self
                .resources
                .iter()
                .any(|r| resource_matches(r, &resource, &target.subresource))
            && (self.names.is_empty() || self.names.contains(&target.name))
    }

    /// Whether everything that `other` permits is permitted by this rule. Compared piece by piece
    /// as upstream: `other` must have been broken down to one verb, group and resource.
    fn covers_atom(&self, other: &Self) -> bool {
        let all = |mine: &[String], theirs: &[String]| {
            mine.iter().any(|m| m == "*") || theirs.iter().all(|t| mine.contains(t))
        };
        let resources = |theirs: &[String]| {
            theirs.iter().all(|theirs| {
                let sub = theirs.split_once('/').map_or("", |(_, sub)| sub);
                self.resources
                    .iter()
                    .any(|mine| resource_matches(mine, theirs, sub))
            })
        };
        let names = self.names.is_empty()
            || (!other.names.is_empty() && other.names.iter().all(|n| self.names.contains(n)));
        let paths = other.paths.iter().all(|theirs| {
            self.paths
                .iter()
                .any(|mine| mine == theirs || path_matches(mine, theirs))
        });
        all(&self.verbs, &other.verbs)
            && all(&self.groups, &other.groups)
            && resources(&other.resources)
            && names
            && paths
    }

    fn atoms(&self) -> Vec<Self> {
        let mut atoms = Vec::new();
        for verb in &self.verbs {
            for path in &self.paths {
                atoms.push(Self {
                    verbs: vec![verb.clone()],
                    paths: vec![path.clone()],
                    ..Self::default()
                });
            }
            for group in &self.groups {
                for resource in &self.resources {
                    let names: Vec<Vec<String>> = if self.names.is_empty() {
                        vec![Vec::new()]
                    } else {
                        self.names.iter().map(|name| vec![name.clone()]).collect()
                    };
                    atoms.extend(names.into_iter().map(|names| Self {
                        verbs: vec![verb.clone()],
                        groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        names,
                        paths: Vec::new(),
                    }));
                }
            }
        }
        atoms
    }
}

/// The part of `wanted` that `held` does not cover.
pub(crate) fn uncovered(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let atoms = wanted.iter().flat_map(Rule::atoms);
    atoms
        .filter(|atom| !held.iter().any(|rule| rule.covers_atom(atom)))
        .collect()
}

fn holds(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

/// `*` is everything, `*/scale` that subresource of everything.
fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    rule == "*"
        || rule == resource
        || (!subresource.is_empty() && rule.strip_prefix("*/") == Some(subresource))
}

fn path_matches(rule: &str, path: &str) -> bool {
    rule == "*" || rule == path || rule.strip_suffix('*').is_some_and(|p| path.starts_with(p))
}

#[cfg(test)]
mod tests {
    use tmc_apimachinery::user::UserInfo;
    use tmc_apimachinery::{ClusterName, ClusterScope};

    use super::*;

    fn rule(value: Value) -> Rule {
        Rule::list(&json!([value])).remove(0)
    }

    fn asks(verb: &str, group: &str, resource: &str, sub: &str, name: &str) -> Attributes {
        Attributes {
            user: UserInfo::default(),
            cluster: ClusterScope::One(ClusterName::new("root")),
            verb: verb.into(),
            target: Target::Resource(ResourceTarget {
                group: group.into(),
                resource: resource.into(),
                subresource: sub.into(),
                name: name.into(),
                ..ResourceTarget::default()
            }),
        }
    }

    #[test]
    fn a_rule_permits_exactly_its_verbs_groups_resources_and_names() {
        let some = rule(
            json!({"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments", "*/scale"], "resourceNames": ["web"]}),
        );
        for (attributes, expected) in [
            (asks("get", "apps", "deployments", "", "web"), true),
            (asks("get", "apps", "deployments", "scale", "web"), true),
            (asks("get", "apps", "deployments", "status", "web"), false),
            (asks("list", "apps", "deployments", "", "web"), false),
            (asks("get", "", "deployments", "", "web"), false),
            (asks("get", "apps", "deployments", "", "website"), false),
            (asks("get", "apps", "deployments", "", ""), false),
        ] {
            assert_eq!(some.permits(&attributes), expected, "{attributes:?}");
        }
    }

    #[test]
    fn a_path_rule_matches_exactly_or_below_a_star() {
        let paths = rule(json!({"verbs": ["get"], "nonResourceURLs": ["/metrics", "/api/*"]}));
        let get = |path: &str| Attributes {
            target: Target::Path(path.into()),
            ..asks("get", "", "", "", "")
        };
        assert!(paths.permits(&get("/metrics")) && paths.permits(&get("/api/v1")));
        assert!(!paths.permits(&get("/metrics/x")) && !paths.permits(&get("/apis")));
    }

    #[test]
    fn what_is_not_covered_is_named_piece_by_piece() {
        let held = [rule(
            json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}),
        )];
        let wanted = [rule(
            json!({"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods", "secrets"]}),
        )];
        let missing = uncovered(&held, &wanted);
        assert_eq!(
            missing.len(),
            3,
            "delete pods, get secrets, delete secrets: {missing:?}"
        );
        assert!(uncovered(&held, &held).is_empty());
    }

    #[test]
    fn a_rule_for_one_name_does_not_cover_the_rule_for_all_names() {
        let one = [rule(
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}),
        )];
        let all = [rule(
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}),
        )];
        assert!(!uncovered(&one, &all).is_empty());
        assert!(uncovered(&all, &one).is_empty());
    }
}
