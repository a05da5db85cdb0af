//! Client certificates by CertificateSigningRequest.
//!
//! A request approved in workspace `root` yields an identity for the whole hub; one approved in
//! any other workspace is confined to that workspace, so that its administrators can let people in
//! but never speak for them elsewhere. Names and groups under `system:` are never issued.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::status::{ApiError, Cause, Result};
use tmc_apimachinery::user::{Attributes, ResourceTarget, Target};
use tmc_apimachinery::{ClusterName, ClusterScope};
use tmc_server::tls::CertificateRequest;

use crate::environment::timestamp;
use crate::rbac::is_privileged;
use crate::storage::{Core, Place};

/// The signer that this hub serves.
pub const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const DEFAULT_TTL: Duration = Duration::from_secs(24 * 3600);
const MIN_TTL: Duration = Duration::from_secs(600);
const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// Signs client certificates.
pub trait Signer: Send + Sync {
    /// Signs a PEM certificate request for client authentication; `scope` confines the identity to
    /// one logical cluster.
    ///
    /// # Errors
    /// A sentence that says why the request cannot be signed.
    fn sign(
        &self,
        request: &str,
        ttl: Duration,
        scope: Option<&ClusterName>,
    ) -> std::result::Result<String, String>;
}

/// Fills in who asks when a request is made, and the certificate when it has been approved.
pub(crate) fn complete(core: &Core, place: &Place, object: &mut Value, old: Option<&Value>) {
    if old.is_none() {
        object["spec"]["username"] = place.user.name.as_str().into();
        object["spec"]["uid"] = place.user.uid.as_str().into();
        object["spec"]["groups"] = json!(place.user.groups);
        return;
    }
    if place.subresource != "approval" {
        return;
    }
    let approved = has_condition(object, "Approved") && !has_condition(object, "Denied");
    let issued = object.pointer("/status/certificate").is_some();
    if !approved || issued || object["spec"]["signerName"] != CLIENT_SIGNER {
        return;
    }
    let Some(signer) = &core.signer else { return };
    let ttl = object["spec"]["expirationSeconds"]
        .as_u64()
        .map_or(DEFAULT_TTL, Duration::from_secs)
        .clamp(MIN_TTL, MAX_TTL);
    let scope = (place.cluster.as_str() != ClusterName::ROOT).then_some(&place.cluster);
    let signed = request_pem(object).and_then(|pem| signer.sign(&pem, ttl, scope));
    match signed {
        Ok(pem) => object["status"]["certificate"] = STANDARD.encode(pem).into(),
        Err(why) => {
            let now = timestamp(core.environment.now());
            let failed = json!({"type": "Failed", "status": "True", "reason": "SigningFailed",
                "message": why, "lastUpdateTime": now, "lastTransitionTime": now});
            if let Some(list) = object["status"]["conditions"].as_array_mut() {
                list.push(failed);
            }
        }
    }
}

fn has_condition(object: &Value, kind: &str) -> bool {
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    conditions.is_some_and(|list| {
        list.iter()
            .any(|c| c["type"] == kind && c["status"] != "False")
    })
}

fn request_pem(object: &Value) -> std::result::Result<String, String> {
    let encoded = object["spec"]["request"].as_str().unwrap_or_default();
    let bytes = STANDARD
        .decode(encoded)
        .map_err(|_| "it is not base64".to_owned())?;
    String::from_utf8(bytes).map_err(|_| "it is not PEM text".to_owned())
}

/// Refuses requests that this hub would never sign, changes of what was asked for, and approval by
/// someone who may not approve for the signer.
pub(crate) fn check(core: &Core, place: &Place, object: &Value, old: Option<&Value>) -> Result<()> {
    let gvk = &place.definition.gvk;
    if gvk.group != "certificates.k8s.io" {
        return Ok(());
    }
    let name = meta(object).name();
    let invalid = |cause| Err(ApiError::invalid(&gvk.group, &gvk.kind, name, vec![cause]));
    let Some(old) = old else {
        return match check_request(object) {
            Ok(()) => Ok(()),
            Err((field, why)) => invalid(Cause::invalid(
                field,
                &object
                    .pointer("/spec/signerName")
                    .cloned()
                    .unwrap_or_default(),
                why,
            )),
        };
    };
    if old["spec"] != object["spec"] {
        return invalid(Cause::forbidden(
            "spec",
            "a certificate request cannot be changed",
        ));
    }
    if place.subresource != "approval" || is_privileged(&place.user) {
        return Ok(());
    }
    let signer = object["spec"]["signerName"].as_str().unwrap_or_default();
    let attributes = Attributes {
        user: (*place.user).clone(),
        cluster: ClusterScope::One(place.cluster.clone()),
        verb: "approve".into(),
        target: Target::Resource(ResourceTarget {
            group: gvk.group.clone(),
            version: gvk.version.clone(),
            resource: "signers".into(),
            name: signer.to_owned(),
            ..ResourceTarget::default()
        }),
    };
    if core.rbac.permits(core, &place.cluster, &attributes) {
        return Ok(());
    }
    let why = format!("user not permitted to approve requests with signerName \"{signer}\"");
    Err(ApiError::forbidden(&place.resource(), name, &why))
}

fn check_request(object: &Value) -> std::result::Result<(), (&'static str, String)> {
    if object["spec"]["signerName"] != CLIENT_SIGNER {
        return Err((
            "spec.signerName",
            format!("this hub signs for {CLIENT_SIGNER} only"),
        ));
    }
    let field = "spec.request";
    let pem = request_pem(object).map_err(|why| (field, why))?;
    // Read as the signer reads it, so that nothing is signed that was not judged here.
    let request = CertificateRequest::parse(&pem).map_err(|error| (field, error.to_string()))?;
    let mut names = std::iter::once(&request.user).chain(&request.groups);
    let reserved = names.find(|name| name.starts_with("system:"));
    match reserved {
        Some(name) => Err((
            field,
            format!("\"{name}\" is reserved: no name or group under system: is issued"),
        )),
        None => Ok(()),
    }
}
