//! The rules together, as one link of the admission chain.

use async_trait::async_trait;
use serde_json::Value;
use tmc_api::keys::{self, KeyPlace};
use tmc_apimachinery::GroupResource;
use tmc_apimachinery::admission::{Admission, AdmissionRequest, Operation};
use tmc_apimachinery::status::{ApiError, Cause, Result};

use crate::rules::reserved::{self, Violation};
use crate::rules::{self, Kind, system_kinds};
use crate::rules::{cluster, location, placement, synctarget, workspace};
use crate::{GuardConfig, Writer};

/// All guards.
pub(crate) struct Guards {
    config: GuardConfig,
}

impl Guards {
    pub(crate) fn new(config: GuardConfig) -> Self {
        Self { config }
    }

    fn default(&self, kind: Kind, object: &mut Value) {
        match kind {
            Kind::SyncTarget => synctarget::default(object, &self.config),
            Kind::Cluster => cluster::default(object),
            Kind::Location => location::default(object),
            Kind::Placement => placement::default(object),
            Kind::Workspace | Kind::Other => {}
        }
    }

    fn causes(
        &self,
        kind: Kind,
        writer: Writer,
        object: &Value,
        old: Option<&Value>,
    ) -> Vec<Cause> {
        let mut causes = match kind {
            Kind::Cluster if old.is_none() => cluster::validate_name(object),
            Kind::Workspace if old.is_none() => workspace::validate_name(object),
            _ => Vec::new(),
        };
        if rules::spec_changed(object, old) {
            causes.extend(match kind {
                Kind::SyncTarget => synctarget::validate(writer, object, old, &self.config),
                Kind::Cluster => cluster::validate(writer, object, old, &self.config),
                Kind::Location => location::validate(object),
                Kind::Placement => placement::validate(object),
                Kind::Workspace => workspace::validate(writer, object, old),
                Kind::Other => Vec::new(),
            });
        }
        causes
    }

    /// Changes of reserved keys that the writer may not make.
    async fn violations(&self, request: &AdmissionRequest<'_>, object: &Value) -> Vec<Violation> {
        let mut found = reserved::violations(Writer::of(request.user), object, request.old);
        let display = |v: &Violation| {
            v.place == KeyPlace::Annotation && v.key == keys::API_VERSION_ANNOTATION
        };
        if found.iter().any(display) && self.is_importing_agent(request, object).await {
            found.retain(|violation| !display(violation));
        }
        found
    }

    /// Whether an agent writes an import of its own target.
    async fn is_importing_agent(&self, request: &AdmissionRequest<'_>, object: &Value) -> bool {
        let is_import =
            request.gvk.group == "apiresource.kcp.io" && request.gvk.kind == "APIResourceImport";
        let location = |o: &Value| {
            o.pointer("/spec/location")
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let Some(target) = location(object).filter(|name| is_import && !name.is_empty()) else {
            return false;
        };
        // An import must not wander from one target to another to gain its agent's rights.
        let same = request
            .old
            .is_none_or(|old| location(old).as_ref() == Some(&target));
        same && self
            .config
            .agents
            .may_sync(request.user, request.cluster, &target)
            .await
    }

    /// Who may write `/status` of our kinds.
    async fn check_status(
        &self,
        request: &AdmissionRequest<'_>,
        object: Option<&Value>,
    ) -> Result<()> {
        let writer = Writer::of(request.user);
        let ours = system_kinds::is_our_status(request.gvk, request.subresource);
        if !ours || writer == Writer::Controller {
            return Ok(());
        }
        let agent = Kind::of(request.gvk) == Kind::SyncTarget
            && self
                .config
                .agents
                .may_sync(request.user, request.cluster, request.name)
                .await;
        let (true, Some(new), Some(old)) = (agent, object, request.old) else {
            return Err(refused(request, "status is written by the system only"));
        };
        let foreign = system_kinds::foreign_to_agents(new, old);
        if foreign.is_empty() {
            return Ok(());
        }
        let mut error = refused(
            request,
            &format!(
                "an agent may not write {} of its SyncTarget",
                foreign.join(", ")
            ),
        );
        error.causes = foreign
            .into_iter()
            .map(|field| Cause::forbidden(field, "is not the agent's to write"))
            .collect();
        Err(error)
    }
}

/// Whether the writer may write objects of this kind at all.
fn check_kind(request: &AdmissionRequest<'_>) -> Result<()> {
    let writer = Writer::of(request.user);
    let why = system_kinds::refuse_system_kind(request.gvk, writer);
    why.map_or(Ok(()), |why| Err(refused(request, &why)))
}

/// What may be done to a LogicalCluster; on what will be stored, since defaults are no change.
fn check_logical_cluster(request: &AdmissionRequest<'_>, object: Option<&Value>) -> Result<()> {
    let writer = Writer::of(request.user);
    let (gvk, states) = (request.gvk, (object, request.old));
    let why = system_kinds::refuse_logical_cluster(gvk, writer, request.operation, states);
    why.map_or(Ok(()), |why| Err(refused(request, why)))
}

fn refused(request: &AdmissionRequest<'_>, why: &str) -> ApiError {
    let resource = GroupResource::new(&request.gvr.group, &request.gvr.resource);
    ApiError::forbidden(&resource, request.name, why)
}

fn invalid(request: &AdmissionRequest<'_>, causes: Vec<Cause>) -> Result<()> {
    if causes.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(
        &request.gvk.group,
        &request.gvk.kind,
        request.name,
        causes,
    ))
}

#[async_trait]
impl Admission for Guards {
    async fn mutate(&self, request: &AdmissionRequest<'_>, object: &mut Value) -> Result<()> {
        check_kind(request)?;
        let writer = Writer::of(request.user);
        let old = request.old;
        reserved::repair(writer, object, old);
        // Here, before the hub adds keys of its own, for what the client itself sends.
        let violations = self.violations(request, object).await;
        invalid(request, violations.iter().map(Violation::cause).collect())?;
        if request.subresource.is_empty() && object.is_object() {
            let kind = Kind::of(request.gvk);
            if kind == Kind::SyncTarget {
                synctarget::keep_hub_taints(writer, object, old);
            }
            self.default(kind, object);
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>, object: Option<&Value>) -> Result<()> {
        check_kind(request)?;
        check_logical_cluster(request, object)?;
        self.check_status(request, object).await?;
        if request.operation == Operation::Delete {
            return Ok(());
        }
        let Some(object) = object else { return Ok(()) };
        let kind = Kind::of(request.gvk);
        let created = request.operation == Operation::Create;
        let violations = self.violations(request, object).await;
        let mut causes: Vec<Cause> = violations
            .iter()
            .filter(|v| !(created && reserved::given_by_hub(kind, v)))
            .map(Violation::cause)
            .collect();
        if request.subresource.is_empty() {
            causes.extend(self.causes(kind, Writer::of(request.user), object, request.old));
        }
        invalid(request, causes)
    }
}

#[cfg(test)]
mod tests;
