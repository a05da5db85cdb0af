//! Discovery documents: `/api`, `/apis`, group lists, resource lists, and the aggregated form.

use std::cmp::Ordering;

use serde_json::Value;

use crate::definition::ApiSet;
use crate::names::GroupVersion;

/// Kubernetes version priority: GA before beta before alpha, higher first; the rest lexically
/// after. `Less` means `a` comes first.
pub fn compare_versions(_a: &str, _b: &str) -> Ordering {
    unimplemented!()
}

/// `GET /api` (`APIVersions`).
pub fn api_versions(_set: &ApiSet) -> Value {
    unimplemented!()
}

/// `GET /apis` (`APIGroupList`).
pub fn group_list(_set: &ApiSet) -> Value {
    unimplemented!()
}

/// `GET /apis/<group>` (`APIGroup`), `None` if nothing of it is served.
pub fn group(_set: &ApiSet, _group: &str) -> Option<Value> {
    unimplemented!()
}

/// `GET /apis/<group>/<version>` or `/api/v1` (`APIResourceList`).
pub fn resource_list(_set: &ApiSet, _gv: &GroupVersion) -> Option<Value> {
    unimplemented!()
}

/// `GET /api` or `/apis` asked for as `APIGroupDiscoveryList` (`apidiscovery.k8s.io/v2`);
/// `legacy` true for `/api`.
pub fn aggregated(_set: &ApiSet, _legacy: bool) -> Value {
    unimplemented!()
}
