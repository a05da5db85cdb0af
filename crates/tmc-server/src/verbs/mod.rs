//! The Kubernetes REST verbs in front of a resource store: which operation a request is, whether
//! the resource offers it, and the parts that several verbs share.

mod delete;
mod input;
mod patch;
mod read;
mod scale;
mod target;
mod watch;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use tmc_apimachinery::definition::{ApiSet, ResourceDefinition, Verbs};
use tmc_apimachinery::request_info::RequestInfo;
use tmc_apimachinery::status::{ApiError, Result};
use tmc_apimachinery::table::Column;
use tmc_apimachinery::{ClusterScope, GroupVersionResource};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::resource::{ResourceRequest, ResourceStore};
use crate::respond::{error_response, with_allow};
use crate::surface::{RequestContext, Response};

/// A request for a resource that exists and offers the verb.
pub(crate) struct Call<'a> {
    pub(crate) store: &'a dyn ResourceStore,
    pub(crate) request: ResourceRequest,
    pub(crate) info: &'a RequestInfo,
    pub(crate) name: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) env: Environment<'a>,
}

/// What verbs need of the server.
#[derive(Clone, Copy)]
pub(crate) struct Environment<'a> {
    pub(crate) config: &'a Config,
    pub(crate) metrics: &'a Metrics,
    /// Fires when the listener of this request stops.
    pub(crate) stop: &'a CancellationToken,
}

impl Call<'_> {
    fn definition(&self) -> &ResourceDefinition {
        &self.request.definition
    }

    /// Columns of a table; only the resource itself has its own.
    fn columns(&self) -> &[Column] {
        let own = matches!(self.request.subresource.as_str(), "" | "status");
        if own { &self.definition().columns } else { &[] }
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Operation {
    fn of(verb: &str) -> Option<Self> {
        Some(match verb {
            "get" => Self::Get,
            "list" => Self::List,
            "watch" => Self::Watch,
            "create" => Self::Create,
            "update" => Self::Update,
            "patch" => Self::Patch,
            "delete" => Self::Delete,
            "deletecollection" => Self::DeleteCollection,
            _ => return None,
        })
    }

    fn verb(self) -> Verbs {
        match self {
            Self::Get => Verbs::GET,
            Self::List => Verbs::LIST,
            Self::Watch => Verbs::WATCH,
            Self::Create => Verbs::CREATE,
            Self::Update => Verbs::UPDATE,
            Self::Patch => Verbs::PATCH,
            Self::Delete => Verbs::DELETE,
            Self::DeleteCollection => Verbs::DELETE_COLLECTION,
        }
    }

    fn reads_many(self) -> bool {
        matches!(self, Self::List | Self::Watch)
    }
}

/// The definition that a request's path names.
///
/// # Errors
/// 404 if nothing of that name is served.
pub(crate) fn find(set: &ApiSet, info: &RequestInfo) -> Result<Arc<ResourceDefinition>> {
    let plural = info.resource.split(':').next().unwrap_or("");
    let gvr = GroupVersionResource::new(&info.group, &info.version, plural);
    set.get(&gvr).cloned().ok_or_else(ApiError::no_such_path)
}

/// Serves a request for a resource.
///
/// # Errors
/// Whatever the verb refuses; 405 answers come as `Ok`, for their `Allow` header.
pub(crate) async fn serve(
    env: Environment<'_>,
    store: &dyn ResourceStore,
    definition: Arc<ResourceDefinition>,
    context: &RequestContext,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Response> {
    let info = &context.info;
    let namespace = namespace_of(&definition, info)?;
    let verbs = offered(&definition, &info.subresource)?;
    let operation = match check_operation(&definition, info, verbs, namespace) {
        Ok(operation) => operation,
        Err(error) if error.code == 405 => {
            return Ok(with_allow(error_response(&error), &methods(verbs)));
        }
        Err(error) => return Err(error),
    };
    check_wildcard(&context.resolved.scope, operation, &info.verb)?;
    let request = ResourceRequest {
        scope: context.resolved.scope.clone(),
        namespace: namespace.to_owned(),
        subresource: info.subresource.clone(),
        user: context.user.clone(),
        domain: context.resolved.domain.clone(),
        definition,
    };
    let call = Call {
        store,
        request,
        info,
        name: &info.name,
        headers,
        body,
        env,
    };
    match operation {
        Operation::Get => read::get(&call).await,
        Operation::List => read::list(&call).await,
        Operation::Watch => watch::watch(&call).await,
        Operation::Create => write::create(&call).await,
        Operation::Update => write::update(&call).await,
        Operation::Patch => patch::patch(&call).await,
        Operation::Delete => delete::delete(&call).await,
        Operation::DeleteCollection => delete::delete_collection(&call).await,
    }
}

/// The namespace that the store is to look in. The path of one namespace object counts as being in
/// it, for authorization; its storage does not.
fn namespace_of<'a>(definition: &ResourceDefinition, info: &'a RequestInfo) -> Result<&'a str> {
    let namespace_object = info.group.is_empty() && info.resource == "namespaces";
    match (definition.namespaced(), info.namespace.is_empty()) {
        (true, _) | (false, true) => Ok(&info.namespace),
        (false, false) if namespace_object => Ok(""),
        (false, false) => Err(ApiError::no_such_path()),
    }
}

/// Verbs of the resource or of the subresource named.
fn offered(definition: &ResourceDefinition, subresource: &str) -> Result<Verbs> {
    // A part can be written only where the resource can.
    let parts = [Verbs::GET, Verbs::UPDATE, Verbs::PATCH]
        .into_iter()
        .filter(|verb| definition.verbs.contains(*verb))
        .fold(Verbs::NONE, Verbs::and);
    let subresources = &definition.subresources;
    match subresource {
        "" => Ok(definition.verbs),
        "status" if subresources.status => Ok(parts),
        "scale" if subresources.scale.is_some() => Ok(parts),
        other => match subresources.other.get(other) {
            Some((_, verbs)) => Ok(*verbs),
            None => Err(ApiError::no_such_path()),
        },
    }
}

/// Whether path and verb go together: single objects have names and, where namespaced, a
/// namespace; collections have neither.
fn check_operation(
    definition: &ResourceDefinition,
    info: &RequestInfo,
    verbs: Verbs,
    namespace: &str,
) -> Result<Operation> {
    let refused = || {
        ApiError::method_not_allowed(
            "the server does not allow this method on the requested resource",
        )
    };
    let operation = Operation::of(&info.verb).ok_or_else(refused)?;
    if !verbs.contains(operation.verb()) {
        return Err(refused());
    }
    let named = !info.name.is_empty();
    let part = !info.subresource.is_empty();
    let placed = !definition.namespaced() || !namespace.is_empty();
    match operation {
        Operation::List | Operation::Watch if !part => Ok(operation),
        Operation::DeleteCollection if !part && placed => Ok(operation),
        Operation::Create if named == part && placed => Ok(operation),
        Operation::Get | Operation::Update | Operation::Patch | Operation::Delete if named => {
            if placed {
                Ok(operation)
            } else {
                Err(ApiError::no_such_path())
            }
        }
        _ => Err(refused()),
    }
}

fn check_wildcard(scope: &ClusterScope, operation: Operation, verb: &str) -> Result<()> {
    if *scope == ClusterScope::All && !operation.reads_many() {
        return Err(ApiError::method_not_allowed(format!(
            "the server does not allow this method on the requested resource: {verb} is not \
             supported in the `*` logical cluster"
        )));
    }
    Ok(())
}

/// HTTP methods behind a set of verbs, for `Allow`.
fn methods(verbs: Verbs) -> Vec<&'static str> {
    let any = |set: &[Verbs]| set.iter().any(|verb| verbs.contains(*verb));
    let reads = any(&[Verbs::GET, Verbs::LIST, Verbs::WATCH]);
    let deletes = any(&[Verbs::DELETE, Verbs::DELETE_COLLECTION]);
    [
        (reads, "GET"),
        (reads, "HEAD"),
        (any(&[Verbs::CREATE]), "POST"),
        (any(&[Verbs::UPDATE]), "PUT"),
        (any(&[Verbs::PATCH]), "PATCH"),
        (deletes, "DELETE"),
    ]
    .into_iter()
    .filter_map(|(offered, method)| offered.then_some(method))
    .collect()
}
