//! TokenRequest: what is asked for becomes claims, and claims a token.

use serde::Deserialize;
use serde_json::{Value, json};
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::options::WriteOptions;
use tmc_apimachinery::status::{ApiError, Cause, Result};
use tmc_apimachinery::{GroupResource, names::GroupVersionKind};
use tmc_server::resource::{Object, Written};

use super::claims::{Claims, Reference, Subject, user_name};
use super::{agents, issuer};
use crate::environment::timestamp;
use crate::storage::{Core, Layout, Place};

const GROUP: &str = "authentication.k8s.io";
const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
/// Kubernetes refuses more than this, whatever the server's own bound is.
const ABSURD_SECONDS: i64 = 1 << 32;
/// The longest life of a token: a key is kept until the last token that it signed has ended.
const MAX_SECONDS: i64 = 365 * 24 * 3600;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    audiences: Option<Vec<String>>,
    expiration_seconds: Option<i64>,
    bound_object_ref: Option<BoundObject>,
}

/// Audiences, seconds, warning.
type Terms = (Vec<String>, i64, Option<String>);

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BoundObject {
    kind: Option<String>,
    api_version: Option<String>,
    name: Option<String>,
    uid: Option<String>,
}

/// Whether a request is for a token of a ServiceAccount.
pub(crate) fn is_token_request(place: &Place) -> bool {
    place.subresource == "token" && place.resource() == service_accounts()
}

pub(super) fn service_accounts() -> GroupResource {
    GroupResource::new("", "serviceaccounts")
}

/// How long a token lives, `longest` at most, and a warning if that is less than was asked for.
fn lifetime(asked: Option<i64>, longest: i64) -> std::result::Result<(i64, Option<String>), Cause> {
    let seconds = asked.unwrap_or(DEFAULT_SECONDS);
    let refused = |why: &str| {
        let field = "spec.expirationSeconds";
        Err(Cause::invalid(field, &seconds.into(), why))
    };
    if seconds < MIN_SECONDS {
        return refused("may not specify a duration less than 10 minutes");
    }
    if seconds > ABSURD_SECONDS {
        return refused("may not specify a duration larger than 2^32 seconds");
    }
    if seconds > longest {
        let warning =
            format!("requested expiration of {seconds} seconds shortened to {longest} seconds");
        return Ok((longest, Some(warning)));
    }
    Ok((seconds, None))
}

fn read_spec(object: &Value) -> Result<Spec> {
    match &object["spec"] {
        Value::Null => Ok(Spec::default()),
        spec => Spec::deserialize(spec)
            .map_err(|error| ApiError::bad_request(format!("TokenRequest: spec: {error}"))),
    }
}

impl Core {
    /// Answers a TokenRequest for a ServiceAccount.
    ///
    /// # Errors
    /// 404 for an account or bound object that is not there, 409 for one of another uid, 422 for a
    /// lifetime out of bounds, 403 and 422 for an agent's account where the caller is not one that may
    /// sync or the audience is not the hub, 400 for an object that tokens cannot be bound to.
    pub(crate) fn request_token(
        &self,
        place: &Place,
        name: &str,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Written> {
        let account = self
            .read(&service_accounts(), &place.cluster, &place.namespace, name)
            .ok_or_else(|| ApiError::not_found(&service_accounts(), name))?;
        if meta(&account).is_being_deleted() {
            let why = "the service account is being deleted";
            return Err(ApiError::conflict(&service_accounts(), name, why));
        }
        let spec = read_spec(&object)?;
        let target = self.agent_target(place, &account);
        if let Some(target) = &target {
            self.check_agent(place, &account, target)?;
        }
        let (audiences, seconds, warning) = self
            .terms(&spec, target.is_some())
            .map_err(|cause| ApiError::invalid(GROUP, "TokenRequest", "", vec![cause]))?;
        let mut subject = Subject {
            cluster: match self.layout {
                Layout::Workspaces => place.cluster.to_string(),
                Layout::Plain => String::new(),
            },
            namespace: place.namespace.clone(),
            account: reference(&account),
            ..Subject::default()
        };
        if let Some(bound) = &spec.bound_object_ref {
            self.bind(place, name, bound, &mut subject)?;
        }
        let now = self.environment.now();
        let claims = Claims {
            aud: audiences,
            exp: now.as_second() + seconds,
            iat: now.as_second(),
            iss: issuer(self.layout).to_owned(),
            jti: self.environment.uid(),
            sub: user_name(&place.namespace, name),
            subject,
            nbf: now.as_second(),
        };
        object["apiVersion"] = format!("{GROUP}/v1").into();
        object["kind"] = "TokenRequest".into();
        object["metadata"] = json!({"name": name, "namespace": place.namespace,
            "uid": self.environment.uid(), "creationTimestamp": timestamp(now)});
        object["spec"] = json!({"audiences": claims.aud, "expirationSeconds": seconds,
            "boundObjectRef": object["spec"].get("boundObjectRef")});
        object["status"] = json!({"token": "", "expirationTimestamp": expiration(&claims)});
        // A dry run must leave nothing behind, and a token would be good afterwards.
        if !options.dry_run {
            object["status"]["token"] = self.tokens.sign(&claims)?.into();
        }
        Ok(Written {
            object: Object::from_value(&object),
            created: true,
            warnings: warning.into_iter().collect(),
        })
    }

    /// For whom a token is, how long, and what its caller is to be warned of.
    fn terms(&self, spec: &Spec, of_agent: bool) -> std::result::Result<Terms, Cause> {
        let own = issuer(self.layout);
        let longest = if of_agent {
            agents::MAX_SECONDS
        } else {
            MAX_SECONDS
        };
        let (seconds, warning) = lifetime(spec.expiration_seconds, longest)?;
        let named = spec.audiences.clone().filter(|list| !list.is_empty());
        let audiences = named.unwrap_or_else(|| vec![own.to_owned()]);
        if of_agent {
            agents::check_audiences(&audiences, own)?;
        }
        Ok((audiences, seconds, warning))
    }

    /// Ties the token's life to an object's.
    fn bind(
        &self,
        place: &Place,
        account: &str,
        bound: &BoundObject,
        subject: &mut Subject,
    ) -> Result<()> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (kind, version, name) = (
            text(&bound.kind),
            text(&bound.api_version),
            text(&bound.name),
        );
        let (plural, namespace) = match (version.as_str(), kind.as_str()) {
            ("v1", "Pod") => ("pods", place.namespace.as_str()),
            ("v1", "Secret") => ("secrets", place.namespace.as_str()),
            ("v1", "Node") => ("nodes", ""),
            _ => {
                let (group, version) = version.split_once('/').unwrap_or(("", &version));
                let gvk = GroupVersionKind::new(group, version, &kind);
                return Err(ApiError::bad_request(format!(
                    "cannot bind token to object of type {}/{}, Kind={}: bind it to a Pod, Secret \
                     or Node of v1",
                    gvk.group, gvk.version, gvk.kind
                )));
            }
        };
        let resource = GroupResource::new("", plural);
        let object = self
            .read(&resource, &place.cluster, namespace, &name)
            .ok_or_else(|| ApiError::not_found(&resource, &name))?;
        let found = reference(&object);
        let wanted = text(&bound.uid);
        if !wanted.is_empty() && wanted != found.uid {
            let why = format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in record. \
                 The object might have been deleted and then recreated"
            );
            let resource = GroupResource::new("", kind.as_str());
            return Err(ApiError::conflict(&resource, &name, &why));
        }
        match plural {
            "pods" => {
                if runs_as(&object) != account {
                    return Err(ApiError::bad_request(format!(
                        "cannot bind token for serviceaccount \"{account}\" to pod running with \
                         different serviceaccount name."
                    )));
                }
                subject.node = self.node_of(place, &object);
                subject.pod = Some(found);
            }
            "secrets" => subject.secret = Some(found),
            _ => subject.node = Some(found),
        }
        Ok(())
    }

    /// The node that a Pod runs on, if it is known.
    fn node_of(&self, place: &Place, pod: &Value) -> Option<Reference> {
        let name = pod.pointer("/spec/nodeName")?.as_str()?;
        let node = self.read(&GroupResource::new("", "nodes"), &place.cluster, "", name)?;
        Some(reference(&node))
    }
}

/// The account that a Pod runs as: Kubernetes fills in `default`, a stored Pod may not say it.
fn runs_as(pod: &Value) -> &str {
    let named = pod
        .pointer("/spec/serviceAccountName")
        .and_then(Value::as_str);
    named.filter(|name| !name.is_empty()).unwrap_or("default")
}

fn reference(object: &Value) -> Reference {
    Reference {
        name: meta(object).name().to_owned(),
        uid: meta(object).uid().to_owned(),
    }
}

fn expiration(claims: &Claims) -> Value {
    jiff::Timestamp::from_second(claims.exp).map_or(Value::Null, |time| timestamp(time).into())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nothing_asked(None, Some(3600), false)]
    #[case::least(Some(600), Some(600), false)]
    #[case::too_short(Some(599), None, false)]
    #[case::negative(Some(-1), None, false)]
    #[case::longest(Some(MAX_SECONDS), Some(MAX_SECONDS), false)]
    #[case::shortened(Some(MAX_SECONDS + 1), Some(MAX_SECONDS), true)]
    #[case::absurd(Some((1 << 32) + 1), None, false)]
    fn a_lifetime_has_bounds(
        #[case] asked: Option<i64>,
        #[case] granted: Option<i64>,
        #[case] warned: bool,
    ) {
        let found = lifetime(asked, MAX_SECONDS);
        assert_eq!(found.as_ref().ok().map(|(seconds, _)| *seconds), granted);
        assert_eq!(found.is_ok_and(|(_, warning)| warning.is_some()), warned);
    }

    #[test]
    fn an_agents_lifetime_is_shortened_to_a_day() {
        let (seconds, warning) = lifetime(Some(86_401), agents::MAX_SECONDS).expect("granted");
        assert_eq!(seconds, 86_400);
        let said = "requested expiration of 86401 seconds shortened to 86400 seconds";
        assert_eq!(warning.as_deref(), Some(said));
    }

    #[rstest]
    #[case(json!({}))]
    #[case(json!({"spec": null}))]
    #[case(json!({"spec": {"audiences": null, "expirationSeconds": null, "boundObjectRef": null}}))]
    fn an_empty_request_is_one_for_the_defaults(#[case] object: Value) {
        let spec = read_spec(&object).expect("read");
        assert!(spec.audiences.is_none() && spec.expiration_seconds.is_none());
    }

    #[test]
    fn a_field_of_another_type_is_400_and_named() {
        let error = read_spec(&json!({"spec": {"expirationSeconds": "1h"}})).expect_err("refused");
        assert_eq!(error.code, 400);
    }
}
