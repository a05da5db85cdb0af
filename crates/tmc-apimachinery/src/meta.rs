//! Reading and writing `metadata` of JSON objects, and the rules for names, labels and annotations.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::definition::NameRule;
use crate::status::Cause;

/// Borrowed access to an object's metadata; absent members read as empty.
#[derive(Clone, Copy, Debug)]
pub struct Meta<'a>(&'a Value);

/// Wraps an object for reading its metadata.
pub fn meta(object: &Value) -> Meta<'_> {
    Meta(object)
}

impl<'a> Meta<'a> {
    fn text(&self, key: &str) -> &'a str {
        self.0.get("metadata").and_then(|m| m.get(key)).and_then(Value::as_str).unwrap_or("")
    }

    /// `metadata.name`.
    pub fn name(&self) -> &'a str {
        self.text("name")
    }

    /// `metadata.generateName`.
    pub fn generate_name(&self) -> &'a str {
        self.text("generateName")
    }

    /// `metadata.namespace`.
    pub fn namespace(&self) -> &'a str {
        self.text("namespace")
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &'a str {
        self.text("uid")
    }

    /// `metadata.resourceVersion`.
    pub fn resource_version(&self) -> &'a str {
        self.text("resourceVersion")
    }

    /// `metadata.deletionTimestamp`, empty while not being deleted.
    pub fn deletion_timestamp(&self) -> &'a str {
        self.text("deletionTimestamp")
    }

    /// `metadata.generation`, 0 if absent.
    pub fn generation(&self) -> i64 {
        self.0.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0)
    }

    /// One label.
    pub fn label(&self, key: &str) -> Option<&'a str> {
        self.0.get("metadata")?.get("labels")?.get(key)?.as_str()
    }

    /// One annotation.
    pub fn annotation(&self, key: &str) -> Option<&'a str> {
        self.0.get("metadata")?.get("annotations")?.get(key)?.as_str()
    }

    /// All labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        string_map(self.0.get("metadata").and_then(|m| m.get("labels")))
    }

    /// All annotations.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        string_map(self.0.get("metadata").and_then(|m| m.get("annotations")))
    }

    /// `metadata.finalizers`.
    pub fn finalizers(&self) -> Vec<&'a str> {
        self.0
            .pointer("/metadata/finalizers")
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default()
    }

    /// The logical cluster in the annotation `kcp.io/cluster`.
    pub fn cluster(&self) -> &'a str {
        self.annotation("kcp.io/cluster").unwrap_or("")
    }
}

fn string_map(value: Option<&Value>) -> BTreeMap<String, String> {
    let pairs = value.and_then(Value::as_object).into_iter().flatten();
    pairs.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

/// Sets a label, making `metadata` and `labels` where absent.
pub fn set_label(_object: &mut Value, _key: &str, _text: &str) {
    unimplemented!()
}

/// Sets an annotation, making `metadata` and `annotations` where absent.
pub fn set_annotation(_object: &mut Value, _key: &str, _text: &str) {
    unimplemented!()
}

/// Removes a label; an emptied map goes too. Says whether it was there.
pub fn remove_label(_object: &mut Value, _key: &str) -> bool {
    unimplemented!()
}

/// Removes an annotation; an emptied map goes too. Says whether it was there.
pub fn remove_annotation(_object: &mut Value, _key: &str) -> bool {
    unimplemented!()
}

/// Adds a finalizer; says whether it was absent.
pub fn add_finalizer(_object: &mut Value, _name: &str) -> bool {
    unimplemented!()
}

/// Removes a finalizer; an emptied list goes too. Says whether it was there.
pub fn remove_finalizer(_object: &mut Value, _name: &str) -> bool {
    unimplemented!()
}

/// Errors of a name under a rule, with Kubernetes' wording; `field` is `metadata.name`.
pub fn validate_name(_field: &str, _name: &str, _rule: NameRule) -> Vec<Cause> {
    unimplemented!()
}

/// Errors in labels, annotations (256 KiB in total), finalizers and owner references, with paths
/// and wording as Kubernetes' `ValidateObjectMeta`.
pub fn validate_metadata(_object: &Value) -> Vec<Cause> {
    unimplemented!()
}

/// Errors of a qualified name (`prefix/name`), as used for label keys and taint keys.
pub fn validate_qualified_name(_field: &str, _key: &str) -> Vec<Cause> {
    unimplemented!()
}

/// Errors of a label value.
pub fn validate_label_value(_field: &str, _text: &str) -> Vec<Cause> {
    unimplemented!()
}
