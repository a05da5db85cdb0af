//! REST on one resource with JSON values: what `kube::Api` is for typed objects, for objects whose
//! kind is known only at run time.

use serde_json::Value;
use tmc_apimachinery::{ApiError, GroupVersionResource};

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with a `Status`.
    #[error("{0}")]
    Api(#[from] ApiError),
    /// No (usable) answer: connection, TLS, timeout, malformed body. Safe to show.
    #[error("{0}")]
    Transport(String),
}

impl Error {
    /// HTTP code of an API answer.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api(error) => Some(error.code),
            Self::Transport(_) => None,
        }
    }

    /// 404.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// 409.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }
}

/// Format of a patch body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes strategic merge.
    Strategic,
    /// Server-side apply with `fieldManager` and `force`.
    Apply,
}

/// Options of [`ResourceClient::list`] and watches.
#[derive(Clone, Debug, Default)]
pub struct ListParams {
    /// Label selector text.
    pub labels: String,
    /// Field selector text.
    pub fields: String,
    /// Page size, 0 for all.
    pub limit: u32,
    /// Continue token.
    pub continue_token: String,
}

/// Preconditions and policy of a delete.
#[derive(Clone, Debug, Default)]
pub struct DeleteParams {
    /// Only this uid.
    pub uid: Option<String>,
    /// Only this version.
    pub resource_version: Option<String>,
    /// `Background`, `Foreground`, `Orphan`.
    pub propagation: Option<&'static str>,
}

/// One resource of one server (and logical cluster).
#[derive(Clone)]
pub struct ResourceClient {
    client: kube::Client,
    gvr: GroupVersionResource,
}

impl ResourceClient {
    /// A client of a resource.
    pub fn new(client: kube::Client, gvr: GroupVersionResource) -> Self {
        Self { client, gvr }
    }

    /// The resource.
    pub fn gvr(&self) -> &GroupVersionResource {
        &self.gvr
    }

    /// The client below.
    pub fn kube(&self) -> &kube::Client {
        &self.client
    }

    /// GET one object; `namespace` empty for cluster-scoped.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get(&self, _namespace: &str, _name: &str) -> Result<Value, Error> {
        unimplemented!()
    }

    /// GET the collection; the whole `List` object.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list(&self, _namespace: &str, _params: &ListParams) -> Result<Value, Error> {
        unimplemented!()
    }

    /// POST.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create(&self, _namespace: &str, _object: &Value) -> Result<Value, Error> {
        unimplemented!()
    }

    /// PUT the object, or its subresource if not empty.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn replace(
        &self,
        _namespace: &str,
        _name: &str,
        _subresource: &str,
        _object: &Value,
    ) -> Result<Value, Error> {
        unimplemented!()
    }

    /// PATCH the object, or its subresource if not empty.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn patch(
        &self,
        _namespace: &str,
        _name: &str,
        _subresource: &str,
        _kind: PatchKind,
        _patch: &Value,
    ) -> Result<Value, Error> {
        unimplemented!()
    }

    /// Server-side apply (PATCH apply), forced, as `manager`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn apply(
        &self,
        _namespace: &str,
        _name: &str,
        _manager: &str,
        _object: &Value,
    ) -> Result<Value, Error> {
        unimplemented!()
    }

    /// DELETE. A missing object is the 404 error.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete(
        &self,
        _namespace: &str,
        _name: &str,
        _params: &DeleteParams,
    ) -> Result<(), Error> {
        unimplemented!()
    }
}
