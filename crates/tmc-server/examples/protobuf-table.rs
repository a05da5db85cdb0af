//! Prints `src/protobuf/kubernetes.txt`: how the built-in kinds are laid out in Kubernetes'
//! protobuf encoding, read from the struct tags of the published Go types.
//!
//! ```text
//! cargo run -p tmc-server --example protobuf-table -- \
//!     "$(go env GOMODCACHE)/k8s.io/api@v0.36.2" \
//!     "$(go env GOMODCACHE)/k8s.io/apimachinery@v0.36.2" > crates/tmc-server/src/protobuf/kubernetes.txt
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;

/// Directory below the module, and the `apiVersion` of its kinds.
const PACKAGES: [(&str, &str); 16] = [
    ("core/v1", "v1"),
    ("apps/v1", "apps/v1"),
    ("batch/v1", "batch/v1"),
    ("autoscaling/v1", "autoscaling/v1"),
    ("autoscaling/v2", "autoscaling/v2"),
    ("policy/v1", "policy/v1"),
    ("networking/v1", "networking.k8s.io/v1"),
    ("rbac/v1", "rbac.authorization.k8s.io/v1"),
    ("coordination/v1", "coordination.k8s.io/v1"),
    ("discovery/v1", "discovery.k8s.io/v1"),
    ("events/v1", "events.k8s.io/v1"),
    ("authorization/v1", "authorization.k8s.io/v1"),
    ("authentication/v1", "authentication.k8s.io/v1"),
    ("certificates/v1", "certificates.k8s.io/v1"),
    ("storage/v1", "storage.k8s.io/v1"),
    ("scheduling/v1", "scheduling.k8s.io/v1"),
];

/// Name of the package that holds `ObjectMeta`, `LabelSelector`, `DeleteOptions`.
const META: &str = "meta/v1";

/// A Go field with a protobuf number.
struct Field {
    number: u32,
    /// JSON name, empty if its members are inlined.
    json: String,
    omit_empty: bool,
    go_type: String,
}

/// A Go type declaration.
enum Declaration {
    Struct(Vec<Field>),
    Alias(String),
}

#[derive(Default)]
struct Types {
    /// By `apiVersion.Name`.
    declared: BTreeMap<String, Declaration>,
    /// Kinds that can be sent.
    roots: BTreeSet<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [api, machinery] = arguments.as_slice() else {
        return Err("usage: protobuf-table API_MODULE_DIR APIMACHINERY_MODULE_DIR".into());
    };
    let mut types = Types::default();
    for (directory, version) in PACKAGES {
        types.read(&Path::new(api).join(directory).join("types.go"), version)?;
    }
    types.read(
        &Path::new(machinery).join("pkg/apis/meta/v1/types.go"),
        META,
    )?;
    types
        .roots
        .retain(|name| !name.ends_with("List") && !name.starts_with(META));
    types.roots.insert(format!("{META}.DeleteOptions"));
    types.print();
    Ok(())
}

impl Types {
    fn read(&mut self, path: &Path, version: &str) -> Result<(), Box<dyn Error>> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut current: Option<(String, Vec<Field>)> = None;
        for line in text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with("//"))
        {
            if let Some((name, fields)) = &mut current {
                if line == "}" {
                    let name = std::mem::take(name);
                    let fields = std::mem::take(fields);
                    self.declared.insert(name, Declaration::Struct(fields));
                    current = None;
                } else if let Some(field) = field(line) {
                    fields.push(field);
                } else if line.starts_with("metav1.TypeMeta") || line.starts_with("TypeMeta ") {
                    self.roots.insert(name.clone());
                }
                continue;
            }
            let Some(rest) = line.strip_prefix("type ") else {
                continue;
            };
            let Some((name, definition)) = rest.split_once(' ') else {
                continue;
            };
            let name = format!("{version}.{name}");
            let definition = definition.trim_start_matches("= ").trim();
            if definition == "struct {" {
                current = Some((name, Vec::new()));
            } else {
                self.declared
                    .insert(name, Declaration::Alias(definition.to_owned()));
            }
        }
        Ok(())
    }

    fn print(&self) {
        println!("# Made by examples/protobuf-table.rs from Kubernetes' published types.");
        println!(
            "# message number:name:type with * for a list, % for a map, - where zero means absent."
        );
        let mut wanted: Vec<String> = self.roots.iter().cloned().collect();
        let mut done = BTreeSet::new();
        let mut lines = BTreeMap::new();
        while let Some(name) = wanted.pop() {
            if !done.insert(name.clone()) {
                continue;
            }
            let Some(Declaration::Struct(fields)) = self.declared.get(&name) else {
                continue;
            };
            let package = name.rsplit_once('.').map_or("", |(package, _)| package);
            let mut line = String::new();
            for field in fields {
                let (code, message) = self.code(package, &field.go_type);
                let optional = field.go_type.starts_with('*');
                let zero = if field.omit_empty && !optional {
                    "-"
                } else {
                    ""
                };
                line.push_str(&format!(" {}:{}:{code}{zero}", field.number, field.json));
                wanted.extend(message);
            }
            lines.insert(name, line);
        }
        for (name, line) in lines {
            println!("{name}{line}");
        }
    }

    /// The type code of a Go type, and the message it refers to.
    fn code(&self, package: &str, go_type: &str) -> (String, Option<String>) {
        let plain = |code: &str| (code.to_owned(), None);
        let wrap = |(code, message): (String, Option<String>), mark: &str| (code + mark, message);
        let go_type = go_type.trim_start_matches('*');
        if go_type == "[]byte" {
            return plain("y");
        }
        if let Some(item) = go_type.strip_prefix("[]") {
            return wrap(self.code(package, item), "*");
        }
        if let Some((_, item)) = go_type
            .strip_prefix("map[")
            .and_then(|rest| rest.split_once(']'))
        {
            return wrap(self.code(package, item), "%");
        }
        match go_type {
            "string" => return plain("s"),
            "bool" => return plain("b"),
            "int32" | "int64" | "int" => return plain("i"),
            "resource.Quantity" => return plain("Q"),
            "intstr.IntOrString" => return plain("I"),
            "runtime.RawExtension" => return plain("R"),
            _ => {}
        }
        let (package, name) = match go_type.split_once('.') {
            None => (package, go_type),
            Some(("metav1", name)) => (META, name),
            Some(("v1" | "corev1" | "core", name)) => ("v1", name),
            // Package `types`: names of strings.
            Some(_) => return plain("s"),
        };
        match (package, name) {
            (META, "Time") => return plain("T"),
            (META, "MicroTime") => return plain("U"),
            (META, "FieldsV1") => return plain("R"),
            _ => {}
        }
        let full = format!("{package}.{name}");
        match self.declared.get(&full) {
            Some(Declaration::Struct(_)) => (format!("@{full}"), Some(full)),
            // A named list is a message of its own, with the items as field 1.
            Some(Declaration::Alias(item)) if item.starts_with("[]") => plain("L"),
            Some(Declaration::Alias(other)) => self.code(package, other),
            None => panic!("{full} is not declared in the packages read"),
        }
    }
}

/// A field with `json` and `protobuf` tags, embedded or not.
fn field(line: &str) -> Option<Field> {
    let (declaration, tags) = line.split_once('`')?;
    let tag = |key: &str| {
        let start = tags.find(&format!("{key}:\""))? + key.len() + 2;
        let rest = &tags[start..];
        Some(&rest[..rest.find('"')?])
    };
    let (json, proto) = (tag("json")?, tag("protobuf")?);
    let number = proto.split(',').nth(1)?.parse().ok()?;
    let mut words = declaration.split_whitespace();
    let first = words.next()?;
    let go_type = words.next().unwrap_or(first).to_owned();
    let name = json.split(',').next()?.to_owned();
    Some(Field {
        number,
        json: name,
        omit_empty: json.contains("omitempty"),
        go_type,
    })
}
