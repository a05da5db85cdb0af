//! What a served resource is: names, scope, verbs, schema, columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::names::{GroupResource, GroupVersionKind, GroupVersionResource};
use crate::schema::Schema;
use crate::table::Column;

/// Whether objects live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One namespace of names per logical cluster.
    Cluster,
    /// One namespace of names per Kubernetes namespace.
    Namespaced,
}

/// What can be done with a resource; the source of discovery's verbs and of 405.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verbs(u16);

impl Verbs {
    /// Read one object.
    pub const GET: Self = Self(1);
    /// Read many.
    pub const LIST: Self = Self(1 << 1);
    /// Follow changes.
    pub const WATCH: Self = Self(1 << 2);
    /// Make.
    pub const CREATE: Self = Self(1 << 3);
    /// Replace.
    pub const UPDATE: Self = Self(1 << 4);
    /// Change in part.
    pub const PATCH: Self = Self(1 << 5);
    /// Remove one.
    pub const DELETE: Self = Self(1 << 6);
    /// Remove many.
    pub const DELETE_COLLECTION: Self = Self(1 << 7);
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Everything a stored resource offers.
    pub const ALL: Self = Self(0xff);

    /// Both sets together.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every verb of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The verbs' names in the order in which discovery lists them (alphabetical).
    pub fn names(self) -> Vec<&'static str> {
        [
            (Self::CREATE, "create"),
            (Self::DELETE, "delete"),
            (Self::DELETE_COLLECTION, "deletecollection"),
            (Self::GET, "get"),
            (Self::LIST, "list"),
            (Self::PATCH, "patch"),
            (Self::UPDATE, "update"),
            (Self::WATCH, "watch"),
        ]
        .into_iter()
        .filter_map(|(verb, name)| self.contains(verb).then_some(name))
        .collect()
    }
}

/// Where `/scale` reads and writes, as dotted JSON paths (`spec.replicas`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// Desired replicas, under `spec`.
    pub spec_replicas: String,
    /// Observed replicas, under `status`.
    pub status_replicas: String,
    /// A LabelSelector object (built-ins) or its string form (custom resources), if any.
    pub selector: Option<String>,
}

/// The parts of an object with a URL of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subresources {
    /// `/status` exists: the main resource ignores `status`, `/status` ignores all else.
    pub status: bool,
    /// `/scale` exists.
    pub scale: Option<ScalePaths>,
    /// Further ones served by the surface itself (`token`, `approval`, `finalize`, `binding`), with
    /// kind (as discovery lists it) and verbs.
    pub other: BTreeMap<String, (GroupVersionKind, Verbs)>,
}

/// How `spec`, generation and names behave where kinds differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameRule {
    /// DNS-1123 subdomain (the default).
    #[default]
    Subdomain,
    /// DNS-1123 label (namespaces, Clusters).
    Label,
    /// DNS-1035 label (services).
    Dns1035,
    /// A path segment: anything without `/`, `%` and not `.` or `..` (RBAC).
    PathSegment,
}

/// A resource as one API surface serves it in one version. Shared, immutable.
#[derive(Debug)]
pub struct ResourceDefinition {
    /// Group, version and kind.
    pub gvk: GroupVersionKind,
    /// Plural name in URLs.
    pub plural: String,
    /// Singular name.
    pub singular: String,
    /// Kind of lists.
    pub list_kind: String,
    /// Short names, `deploy`.
    pub short_names: Vec<String>,
    /// Categories, `all`.
    pub categories: Vec<String>,
    /// Scope.
    pub scope: Scope,
    /// Verbs of the main resource.
    pub verbs: Verbs,
    /// Subresources.
    pub subresources: Subresources,
    /// Structural schema: prunes, defaults, validates. `None` for review kinds that are not stored.
    pub schema: Option<Arc<Schema>>,
    /// Printer columns after NAME (which is always first); empty means only AGE.
    pub columns: Vec<Column>,
    /// Whether strategic merge patches are accepted (built-ins only; others answer 415).
    pub strategic: bool,
    /// Field selectors beyond `metadata.name` and `metadata.namespace`, as dotted paths.
    pub selectable_fields: Vec<String>,
    /// Rule for `metadata.name`.
    pub name_rule: NameRule,
    /// Whether `metadata.generation` counts changes of everything but metadata and status.
    pub generation: bool,
    /// A custom resource (CRD) rather than a built-in kind.
    pub custom: bool,
    /// Fields that cannot change after creation, as dotted paths (`spec.selector`).
    pub immutable_fields: Vec<String>,
    /// Group, version and resource under which objects are stored; other served versions convert
    /// by rewriting `apiVersion` only.
    pub storage_version: String,
}

impl ResourceDefinition {
    /// Group, version and resource.
    pub fn gvr(&self) -> GroupVersionResource {
        GroupVersionResource::new(&self.gvk.group, &self.gvk.version, &self.plural)
    }

    /// The resource without its version.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(&self.gvk.group, &self.plural)
    }

    /// `apiVersion` of its objects.
    pub fn api_version(&self) -> String {
        self.gvk.group_version().to_string()
    }

    /// Whether objects live in namespaces.
    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }
}

/// Every resource of one API surface, by group, version and resource. Immutable: a change of what
/// is served makes a new set, so a request sees one consistent set from routing to answer.
#[derive(Debug, Default)]
pub struct ApiSet {
    by_gvr: BTreeMap<GroupVersionResource, Arc<ResourceDefinition>>,
}

impl ApiSet {
    /// A set of definitions; the last of several with the same name wins.
    pub fn new(definitions: impl IntoIterator<Item = Arc<ResourceDefinition>>) -> Self {
        Self {
            by_gvr: definitions.into_iter().map(|d| (d.gvr(), d)).collect(),
        }
    }

    /// The definition of a resource.
    pub fn get(&self, gvr: &GroupVersionResource) -> Option<&Arc<ResourceDefinition>> {
        self.by_gvr.get(gvr)
    }

    /// All definitions, sorted by group, version and resource.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ResourceDefinition>> {
        self.by_gvr.values()
    }

    /// The definition of a kind.
    pub fn by_kind(&self, gvk: &GroupVersionKind) -> Option<&Arc<ResourceDefinition>> {
        self.by_gvr.values().find(|d| d.gvk == *gvk)
    }

    /// Any served version of a resource, the highest-priority version first.
    pub fn by_group_resource(&self, resource: &GroupResource) -> Option<&Arc<ResourceDefinition>> {
        self.by_gvr
            .values()
            .filter(|d| d.gvk.group == resource.group && d.plural == resource.resource)
            .min_by(|a, b| {
                crate::version_priority::compare_versions(&a.gvk.version, &b.gvk.version)
            })
    }
}
