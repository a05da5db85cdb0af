//! OpenAPI v3 documents of an API set, good enough for kubectl's validation, `explain` and `diff`.

use serde_json::Value;

use crate::definition::ApiSet;
use crate::names::GroupVersion;

/// `GET /openapi/v3`: the index of group-version documents; `hash` names each one's content.
pub fn index(_set: &ApiSet, _hash: impl Fn(&GroupVersion) -> String) -> Value {
    unimplemented!()
}

/// `GET /openapi/v3/apis/<group>/<version>`: paths and schemas of one group-version.
pub fn document(_set: &ApiSet, _gv: &GroupVersion) -> Option<Value> {
    unimplemented!()
}
