//! The paths of a document: which methods a resource and its subresources answer, and how.

use serde_json::{Map, Value, json};

use super::prefix;
use super::schemas::Components;
use crate::definition::{ResourceDefinition, Verbs};
use crate::names::GroupVersionKind;

/// Parameters of a request, by what it does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Query {
    Read,
    List,
    Write,
    Patch,
    Delete,
    DeleteMany,
}

/// One method of one path.
struct Operation<'a> {
    method: &'static str,
    /// `x-kubernetes-action`.
    action: &'static str,
    /// Start of the operation's name: `read`, `replace`.
    verb: &'static str,
    query: Query,
    body: Option<Body>,
    answer: Option<Value>,
    kind: &'a GroupVersionKind,
}

enum Body {
    Object(Option<Value>),
    Patch(Value, bool),
}

/// Where a path stands, for descriptions and operation names.
struct Place<'a> {
    definition: &'a ResourceDefinition,
    /// `Status`, empty for the resource itself.
    part: String,
    namespaced: bool,
    everywhere: bool,
}

/// The paths of a resource and its subresources.
pub(super) fn of(
    definition: &ResourceDefinition,
    components: &mut Components,
) -> Map<String, Value> {
    let mut paths = Map::new();
    let root = prefix(&definition.gvk.group_version());
    let namespaced = definition.namespaced();
    let collection = if namespaced {
        format!("{root}/namespaces/{{namespace}}/{}", definition.plural)
    } else {
        format!("{root}/{}", definition.plural)
    };
    let place = |part: &str, everywhere: bool| Place {
        definition,
        part: part.to_owned(),
        namespaced: namespaced && !everywhere,
        everywhere,
    };
    if namespaced && definition.verbs.contains(Verbs::LIST) {
        let list = vec![list_operation(definition, components)];
        insert(
            &mut paths,
            format!("{root}/{}", definition.plural),
            list,
            &place("", true),
            false,
        );
    }
    let many = collection_operations(definition, components);
    insert(
        &mut paths,
        collection.clone(),
        many,
        &place("", false),
        false,
    );
    let one = object_operations(definition, definition.verbs, components);
    insert(
        &mut paths,
        format!("{collection}/{{name}}"),
        one,
        &place("", false),
        true,
    );
    if definition.subresources.status {
        let verbs = without_delete(definition.verbs);
        let operations = object_operations(definition, verbs, components);
        insert(
            &mut paths,
            format!("{collection}/{{name}}/status"),
            operations,
            &place("Status", false),
            true,
        );
    }
    let scale = GroupVersionKind::new("autoscaling", "v1", "Scale");
    if definition.subresources.scale.is_some() {
        let verbs = without_delete(definition.verbs);
        let operations = part_operations(&scale, verbs, components);
        insert(
            &mut paths,
            format!("{collection}/{{name}}/scale"),
            operations,
            &place("Scale", false),
            true,
        );
    }
    for (name, (kind, verbs)) in &definition.subresources.other {
        let operations = part_operations(kind, *verbs, components);
        let path = format!("{collection}/{{name}}/{name}");
        insert(
            &mut paths,
            path,
            operations,
            &place(&capitalized(name), false),
            true,
        );
    }
    paths
}

fn without_delete(verbs: Verbs) -> Verbs {
    [Verbs::GET, Verbs::UPDATE, Verbs::PATCH]
        .into_iter()
        .filter(|v| verbs.contains(*v))
        .fold(Verbs::NONE, Verbs::and)
}

fn list_operation<'a>(
    definition: &'a ResourceDefinition,
    components: &mut Components,
) -> Operation<'a> {
    Operation {
        method: "get",
        action: "list",
        verb: "list",
        query: Query::List,
        body: None,
        answer: components.list(definition),
        kind: &definition.gvk,
    }
}

fn collection_operations<'a>(
    definition: &'a ResourceDefinition,
    components: &mut Components,
) -> Vec<Operation<'a>> {
    let mut operations = Vec::new();
    let kind = &definition.gvk;
    if definition.verbs.contains(Verbs::LIST) {
        operations.push(list_operation(definition, components));
    }
    if definition.verbs.contains(Verbs::CREATE) {
        let answer = components.kind(definition);
        let body = Some(Body::Object(answer.clone()));
        operations.push(Operation {
            method: "post",
            action: "post",
            verb: "create",
            query: Query::Write,
            body,
            answer,
            kind,
        });
    }
    if definition.verbs.contains(Verbs::DELETE_COLLECTION) {
        let answer = Some(components.meta("Status"));
        let body = Some(Body::Object(Some(components.meta("DeleteOptions"))));
        operations.push(Operation {
            method: "delete",
            action: "deletecollection",
            verb: "deleteCollection",
            query: Query::DeleteMany,
            body,
            answer,
            kind,
        });
    }
    operations
}

fn object_operations<'a>(
    definition: &'a ResourceDefinition,
    verbs: Verbs,
    components: &mut Components,
) -> Vec<Operation<'a>> {
    let answer = if verbs == Verbs::NONE {
        None
    } else {
        components.kind(definition)
    };
    let mut operations = operations_on(
        &definition.gvk,
        verbs,
        definition.strategic,
        answer,
        components,
    );
    if verbs.contains(Verbs::DELETE) {
        operations.push(Operation {
            method: "delete",
            action: "delete",
            verb: "delete",
            query: Query::Delete,
            body: Some(Body::Object(Some(components.meta("DeleteOptions")))),
            answer: Some(components.meta("Status")),
            kind: &definition.gvk,
        });
    }
    operations
}

fn part_operations<'a>(
    kind: &'a GroupVersionKind,
    verbs: Verbs,
    components: &mut Components,
) -> Vec<Operation<'a>> {
    let answer = components.subresource(kind);
    let mut operations = operations_on(kind, verbs, false, answer.clone(), components);
    if verbs.contains(Verbs::CREATE) {
        let body = Some(Body::Object(answer.clone()));
        operations.push(Operation {
            method: "post",
            action: "connect",
            verb: "create",
            query: Query::Write,
            body,
            answer,
            kind,
        });
    }
    operations
}

/// Reading, replacing and patching one object.
fn operations_on<'a>(
    kind: &'a GroupVersionKind,
    verbs: Verbs,
    strategic: bool,
    answer: Option<Value>,
    components: &mut Components,
) -> Vec<Operation<'a>> {
    let mut operations = Vec::new();
    let mut add = |method, action, verb, query, body| {
        operations.push(Operation {
            method,
            action,
            verb,
            query,
            body,
            answer: answer.clone(),
            kind,
        });
    };
    if verbs.contains(Verbs::GET) {
        add("get", "get", "read", Query::Read, None);
    }
    if verbs.contains(Verbs::UPDATE) {
        add(
            "put",
            "put",
            "replace",
            Query::Write,
            Some(Body::Object(answer.clone())),
        );
    }
    if verbs.contains(Verbs::PATCH) {
        let body = Body::Patch(components.meta("Patch"), strategic);
        add("patch", "patch", "patch", Query::Patch, Some(body));
    }
    operations
}

fn insert(
    paths: &mut Map<String, Value>,
    path: String,
    operations: Vec<Operation<'_>>,
    place: &Place<'_>,
    named: bool,
) {
    if operations.is_empty() {
        return;
    }
    let mut item = Map::new();
    for operation in operations {
        item.insert(operation.method.to_owned(), operation.value(place));
    }
    let mut parameters = Vec::new();
    if named {
        parameters.push(in_path(
            "name",
            &format!("name of the {}", place.definition.gvk.kind),
        ));
    }
    if place.namespaced {
        parameters.push(in_path(
            "namespace",
            "object name and auth scope, such as for teams and projects",
        ));
    }
    parameters.push(query(
        "pretty",
        "string",
        "If 'true', then the output is pretty printed.",
    ));
    item.insert("parameters".into(), parameters.into());
    paths.insert(path, Value::Object(item));
}

impl Operation<'_> {
    fn value(self, place: &Place<'_>) -> Value {
        let gvk = &place.definition.gvk;
        let group = gvk.group.trim_end_matches(".k8s.io");
        let group = if group.is_empty() { "core" } else { group };
        let tag: String = camel(group);
        let answer = content(
            ["application/json", "application/yaml"],
            self.answer.as_ref(),
        );
        let answer = merged(json!({"description": "OK"}), "content", answer);
        let mut responses = json!({"200": answer, "401": {"description": "Unauthorized"}});
        if self.method == "post" {
            responses["201"] = responses["200"].clone();
            responses["201"]["description"] = "Created".into();
        }
        let scope = if place.namespaced { "Namespaced" } else { "" };
        let everywhere = if place.everywhere {
            "ForAllNamespaces"
        } else {
            ""
        };
        let name = [
            self.verb,
            &capitalized(&tag),
            &capitalized(&gvk.version),
            scope,
            &gvk.kind,
            &place.part,
            everywhere,
        ]
        .concat();
        let mut value = json!({
            "tags": [format!("{tag}_{}", gvk.version)],
            "description": describe(self.action, place),
            "operationId": name,
            "parameters": parameters(self.query),
            "responses": responses,
            "x-kubernetes-action": self.action,
            "x-kubernetes-group-version-kind":
                {"group": self.kind.group, "version": self.kind.version, "kind": self.kind.kind},
        });
        if let Some(body) = self.body {
            value["requestBody"] = body.value();
        }
        value
    }
}

impl Body {
    fn value(self) -> Value {
        match self {
            Self::Object(schema) => json!({"content": {"*/*": schema_of(schema.as_ref())}}),
            Self::Patch(schema, strategic) => {
                let mut types = vec![
                    "application/json-patch+json",
                    "application/merge-patch+json",
                ];
                types.extend(strategic.then_some("application/strategic-merge-patch+json"));
                json!({"content": content(types, Some(&schema)), "required": true})
            }
        }
    }
}

fn schema_of(schema: Option<&Value>) -> Value {
    schema.map_or_else(|| json!({}), |schema| json!({"schema": schema}))
}

fn content<'t>(types: impl IntoIterator<Item = &'t str>, schema: Option<&Value>) -> Value {
    let entries = types
        .into_iter()
        .map(|media| (media.to_owned(), schema_of(schema)));
    Value::Object(entries.collect())
}

fn merged(mut value: Value, key: &str, inner: Value) -> Value {
    value[key] = inner;
    value
}

fn describe(action: &str, place: &Place<'_>) -> String {
    let kind = &place.definition.gvk.kind;
    let part = if place.part.is_empty() {
        String::new()
    } else {
        format!("{} of the ", place.part.to_lowercase())
    };
    match action {
        "list" => format!("list or watch objects of kind {kind}"),
        "post" => format!("create a {kind}"),
        "connect" => format!("create {part}specified {kind}"),
        "deletecollection" => format!("delete collection of {kind}"),
        "get" => format!("read {part}the specified {kind}"),
        "put" => format!("replace {part}the specified {kind}"),
        "patch" => format!("partially update {part}the specified {kind}"),
        _ => format!("delete a {kind}"),
    }
}

fn in_path(name: &str, description: &str) -> Value {
    json!({
        "name": name, "in": "path", "description": description, "required": true,
        "schema": {"type": "string", "uniqueItems": true},
    })
}

fn query(name: &str, kind: &str, description: &str) -> Value {
    json!({
        "name": name, "in": "query", "description": description,
        "schema": {"type": kind, "uniqueItems": true},
    })
}

fn parameters(of: Query) -> Vec<Value> {
    const DRY_RUN: (&str, &str, &str) = (
        "dryRun",
        "string",
        "When present, indicates that modifications should not be persisted. The valid value is All: all dry run stages will be processed.",
    );
    const MANAGER: (&str, &str, &str) = (
        "fieldManager",
        "string",
        "fieldManager is a name associated with the actor or entity that is making these changes, at most 128 printable characters.",
    );
    const VALIDATION: (&str, &str, &str) = (
        "fieldValidation",
        "string",
        "fieldValidation instructs the server on how to handle objects in the request containing unknown or duplicate fields. Valid values are: Ignore (drop them silently), Warn (drop them and send warnings), Strict (refuse the request).",
    );
    const SELECT: &[(&str, &str, &str)] = &[
        (
            "continue",
            "string",
            "The token of the previous answer from which on the list is continued.",
        ),
        (
            "fieldSelector",
            "string",
            "A selector to restrict the list of returned objects by their fields. Defaults to everything.",
        ),
        (
            "labelSelector",
            "string",
            "A selector to restrict the list of returned objects by their labels. Defaults to everything.",
        ),
        (
            "limit",
            "integer",
            "The maximum number of objects to return in one answer.",
        ),
        (
            "resourceVersion",
            "string",
            "resourceVersion sets a constraint on what resource versions a request may be served from.",
        ),
        (
            "resourceVersionMatch",
            "string",
            "resourceVersionMatch determines how resourceVersion is applied to list calls.",
        ),
        (
            "sendInitialEvents",
            "boolean",
            "With watch=true, whether the stream starts with events that make up the current state.",
        ),
        (
            "timeoutSeconds",
            "integer",
            "Timeout for the call, whatever its activity.",
        ),
    ];
    const WATCH: &[(&str, &str, &str)] = &[
        (
            "allowWatchBookmarks",
            "boolean",
            "allowWatchBookmarks requests watch events with type BOOKMARK.",
        ),
        (
            "watch",
            "boolean",
            "Watch for changes to the described resources and return them as a stream of add, update, and remove notifications.",
        ),
    ];
    const DELETE: &[(&str, &str, &str)] = &[
        (
            "gracePeriodSeconds",
            "integer",
            "The duration in seconds before the object should be deleted.",
        ),
        (
            "propagationPolicy",
            "string",
            "Whether and how garbage collection will be performed: Orphan, Background or Foreground.",
        ),
    ];
    let parts: &[&[(&str, &str, &str)]] = match of {
        Query::Read => &[],
        Query::List => &[SELECT, WATCH],
        Query::Write => &[&[DRY_RUN, MANAGER, VALIDATION]],
        Query::Patch => &[&[
            DRY_RUN,
            MANAGER,
            VALIDATION,
            (
                "force",
                "boolean",
                "Force is for apply requests: re-acquire conflicting fields owned by others.",
            ),
        ]],
        Query::Delete => &[&[DRY_RUN], DELETE],
        Query::DeleteMany => &[&[DRY_RUN], DELETE, SELECT],
    };
    parts
        .iter()
        .flat_map(|part| part.iter())
        .map(|(name, kind, text)| query(name, kind, text))
        .collect()
}

/// `rbac.authorization` as `rbacAuthorization`.
fn camel(dotted: &str) -> String {
    let mut parts = dotted.split(['.', '-']);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| name + &capitalized(part))
}

fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_ascii_uppercase().to_string() + chars.as_str()
    })
}
