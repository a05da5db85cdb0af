//! Whether they may: attributes of a request, and the refusal in Kubernetes' words.

use async_trait::async_trait;
use tmc_apimachinery::request_info::RequestInfo;
use tmc_apimachinery::status::{ApiError, Result};
use tmc_apimachinery::user::{
    Attributes, Decision, GROUP_MASTERS, ResourceTarget, Target, UserInfo,
};
use tmc_apimachinery::{ClusterScope, GroupResource};

/// Paths (and what is below them) that are answered without authentication or authorization.
/// Nothing else is; a test compares this list with what the server really answers.
pub const EXEMPT_PATHS: [&str; 3] = ["/livez", "/readyz", "/healthz"];

/// Whether a raw request path is exempt.
pub(crate) fn is_exempt(path: &str) -> bool {
    EXEMPT_PATHS.iter().any(|exempt| {
        path.strip_prefix(exempt)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Decides about paths that belong to no surface: `/metrics` and whatever does not exist.
#[async_trait]
pub trait PathAuthorizer: Send + Sync {
    /// Whether `user` may use the lower-case HTTP method `verb` on `path`.
    async fn authorize_path(&self, user: &UserInfo, verb: &str, path: &str) -> Decision;
}

/// Lets `system:masters` in and nobody else.
#[derive(Clone, Copy, Debug, Default)]
pub struct MastersOnly;

#[async_trait]
impl PathAuthorizer for MastersOnly {
    async fn authorize_path(&self, user: &UserInfo, _: &str, _: &str) -> Decision {
        if user.in_group(GROUP_MASTERS) {
            Decision::Allow
        } else {
            Decision::NoOpinion(String::new())
        }
    }
}

/// What a request asks permission for.
pub(crate) fn attributes(scope: &ClusterScope, user: &UserInfo, info: &RequestInfo) -> Attributes {
    let target = if info.is_resource {
        Target::Resource(ResourceTarget {
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
        })
    } else {
        Target::Path(info.path.clone())
    };
    Attributes {
        user: user.clone(),
        cluster: scope.clone(),
        verb: info.verb.clone(),
        target,
    }
}

/// Turns a decision into an answer; no opinion at the end of the chain is a denial.
///
/// # Errors
/// 403 unless allowed.
pub(crate) fn verdict(decision: Decision, attributes: &Attributes) -> Result<()> {
    match decision {
        Decision::Allow => Ok(()),
        Decision::Deny(why) | Decision::NoOpinion(why) => Err(forbidden(attributes, &why)),
    }
}

/// The refusal, worded as by kube-apiserver.
pub fn forbidden(attributes: &Attributes, why: &str) -> ApiError {
    let user = &attributes.user.name;
    let verb = &attributes.verb;
    let tail = if why.is_empty() {
        String::new()
    } else {
        format!(": {why}")
    };
    match &attributes.target {
        Target::Path(path) => {
            let text = format!("forbidden: User {user:?} cannot {verb} path {path:?}{tail}");
            let mut error = ApiError::forbidden(&GroupResource::default(), "", "");
            error.message = text;
            error
        }
        Target::Resource(target) => {
            let mut resource = target.resource.clone();
            if !target.subresource.is_empty() {
                resource = format!("{resource}/{}", target.subresource);
            }
            let place = if target.namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {:?}", target.namespace)
            };
            let what = format!(
                "User {user:?} cannot {verb} resource {resource:?} in API group {:?} {place}{tail}",
                target.group
            );
            let named = GroupResource::new(&target.group, &target.resource);
            ApiError::forbidden(&named, &target.name, &what)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(info: RequestInfo) -> Attributes {
        attributes(&ClusterScope::All, &UserInfo::new("u", &[]), &info)
    }

    fn info(verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> RequestInfo {
        RequestInfo {
            is_resource: true,
            verb: verb.into(),
            group: group.into(),
            version: "v1".into(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..RequestInfo::default()
        }
    }

    #[test]
    fn refusals_read_as_kubernetes_says_them() {
        let one = ask(info("get", "apps", "deployments", "ns", "web"));
        assert_eq!(
            forbidden(&one, "").message,
            "deployments.apps \"web\" is forbidden: User \"u\" cannot get resource \"deployments\" \
             in API group \"apps\" in the namespace \"ns\""
        );
        let many = ask(info("list", "", "nodes", "", ""));
        assert_eq!(
            forbidden(&many, "no rule").message,
            "nodes is forbidden: User \"u\" cannot list resource \"nodes\" in API group \"\" at the \
             cluster scope: no rule"
        );
        let mut part = info("update", "apps", "deployments", "ns", "web");
        part.subresource = "scale".into();
        let message = forbidden(&ask(part), "").message;
        assert!(
            message.contains("cannot update resource \"deployments/scale\""),
            "{message}"
        );
    }

    #[test]
    fn a_refused_path_names_user_method_and_path() {
        let info = RequestInfo {
            path: "/x".into(),
            verb: "get".into(),
            ..RequestInfo::default()
        };
        let error = forbidden(&ask(info), "");
        assert_eq!(
            error.message,
            "forbidden: User \"u\" cannot get path \"/x\""
        );
        assert_eq!(error.code, 403);
    }

    #[test]
    fn no_opinion_is_a_denial() {
        let attributes = ask(info("get", "", "pods", "a", "b"));
        assert!(verdict(Decision::Allow, &attributes).is_ok());
        assert_eq!(
            verdict(Decision::NoOpinion(String::new()), &attributes)
                .unwrap_err()
                .code,
            403
        );
        assert_eq!(
            verdict(Decision::Deny("no".into()), &attributes)
                .unwrap_err()
                .code,
            403
        );
    }

    #[tokio::test]
    async fn only_masters_see_paths_of_no_surface_by_default() {
        let master = UserInfo::new("m", &[GROUP_MASTERS]);
        assert_eq!(
            MastersOnly.authorize_path(&master, "get", "/x").await,
            Decision::Allow
        );
        let other = UserInfo::new("o", &["system:masters2"]);
        assert_ne!(
            MastersOnly.authorize_path(&other, "get", "/x").await,
            Decision::Allow
        );
    }

    #[test]
    fn exempt_paths_are_these_three_and_what_is_below() {
        assert_eq!(EXEMPT_PATHS, ["/livez", "/readyz", "/healthz"]);
        for path in ["/livez", "/readyz/hub", "/healthz/"] {
            assert!(is_exempt(path), "{path}");
        }
        for path in [
            "/livezz",
            "/",
            "",
            "/metrics",
            "/clusters/a/livez",
            "/Livez",
            "/version",
        ] {
            assert!(!is_exempt(path), "{path}");
        }
    }
}
