//! What a request path asks for (`k8s.io/apiserver/pkg/endpoints/request.RequestInfo`).

use crate::status::Result;

/// A request path and method, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether it names an API resource (else see `path`).
    pub is_resource: bool,
    /// The path.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or the
    /// lower-case method of a non-resource request.
    pub verb: String,
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace, empty for none.
    pub namespace: String,
    /// Plural resource. May carry an identity after `:` (wildcard requests); see `identity`.
    pub resource: String,
    /// Identity hash given with the resource in a wildcard request.
    pub identity: String,
    /// Subresource, empty for none.
    pub subresource: String,
    /// Object name, empty for collections.
    pub name: String,
    /// Decoded query, in order.
    pub query: Vec<(String, String)>,
}

impl RequestInfo {
    /// Parses an already prefix-stripped path (`/api/v1/…`) with its raw query.
    ///
    /// # Errors
    /// 400 for a path segment that does not decode, or more parts than any resource has.
    pub fn parse(_method: &str, _path: &str, _query: Option<&str>) -> Result<Self> {
        unimplemented!()
    }

    /// The first value of a query parameter.
    pub fn param(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}
