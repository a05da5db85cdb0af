//! What is made equal before outputs are compared, and which differences are allowed: data of
//! `ledger.yaml`, each entry with its reason and none without use.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The ledger as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    fields: Vec<WrittenField>,
    texts: Vec<WrittenText>,
    divergences: Vec<WrittenDivergence>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenField {
    path: String,
    #[serde(default)]
    replacement: Option<String>,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenText {
    pattern: String,
    replacement: String,
    #[serde(default)]
    commands: Option<String>,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDivergence {
    commands: String,
    lines: Vec<String>,
    reason: String,
}

/// A regular expression that counts what it matched.
struct Rule {
    regex: Regex,
    used: AtomicUsize,
}

impl Rule {
    fn new(pattern: &str) -> Self {
        let regex = Regex::new(pattern).unwrap_or_else(|error| panic!("ledger: {error}"));
        Self {
            regex,
            used: AtomicUsize::new(0),
        }
    }

    /// A rule for a whole line.
    fn whole(pattern: &str) -> Self {
        Self::new(&format!("^(?:{pattern})$"))
    }

    fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    fn count(&self) {
        self.used.fetch_add(1, Ordering::Relaxed);
    }

    fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed) > 0
    }
}

/// A field of an object that is left out or replaced.
struct Field {
    path: Rule,
    replacement: Option<String>,
    reason: String,
}

/// A piece of text that is replaced.
struct Text {
    pattern: Rule,
    replacement: String,
    commands: Option<Regex>,
    reason: String,
}

/// Lines by which the outputs of some commands may differ.
struct Divergence {
    commands: Regex,
    lines: Vec<Rule>,
    reason: String,
}

/// The ledger, and what of it was of use so far.
pub(super) struct Ledger {
    fields: Vec<Field>,
    texts: Vec<Text>,
    divergences: Vec<Divergence>,
}

impl Ledger {
    /// The ledger of this repository.
    pub(super) fn load() -> Self {
        let written: Written = serde_saphyr::from_str(include_str!("ledger.yaml"))
            .unwrap_or_else(|error| panic!("ledger.yaml: {error}"));
        let command = |pattern: &str| Rule::new(pattern).regex;
        Self {
            fields: written
                .fields
                .into_iter()
                .map(|f| Field {
                    path: Rule::whole(&f.path),
                    replacement: f.replacement,
                    reason: f.reason,
                })
                .collect(),
            texts: written
                .texts
                .into_iter()
                .map(|t| Text {
                    pattern: Rule::new(&format!("(?m){}", t.pattern)),
                    replacement: t.replacement,
                    commands: t.commands.as_deref().map(command),
                    reason: t.reason,
                })
                .collect(),
            divergences: written
                .divergences
                .into_iter()
                .map(|d| Divergence {
                    commands: command(&d.commands),
                    lines: d.lines.iter().map(|line| Rule::whole(line)).collect(),
                    reason: d.reason,
                })
                .collect(),
        }
    }

    /// An object as lines `path = value`, without or with replaced fields.
    pub(super) fn object(&self, object: &Value) -> String {
        let mut text = String::new();
        let mut object = object.clone();
        self.clean("", &mut object);
        flatten("", &object, &mut text);
        text
    }

    fn rule_for(&self, path: &str) -> Option<&Field> {
        let field = self.fields.iter().find(|field| field.path.matches(path))?;
        field.path.count();
        Some(field)
    }

    /// Applies the rules for fields; a map or list that thereby became empty goes, too.
    fn clean(&self, path: &str, value: &mut Value) {
        match value {
            Value::Object(map) => self.clean_map(path, map),
            Value::Array(list) => {
                let element = |item: &Value| match item {
                    Value::String(text) => format!("{path}[]={text}"),
                    // A condition goes by its type.
                    Value::Object(map) if path.ends_with("conditions") => {
                        let kind = map.get("type").and_then(Value::as_str);
                        format!("{path}[]={}", kind.unwrap_or_default())
                    }
                    _ => format!("{path}[]"),
                };
                list.retain(|item| {
                    let path = element(item);
                    !path.contains("]=") || self.rule_for(&path).is_none()
                });
                for item in list {
                    self.clean(&format!("{path}[]"), item);
                }
            }
            _ => {}
        }
    }

    fn clean_map(&self, path: &str, map: &mut Map<String, Value>) {
        let keys: Vec<String> = map.keys().cloned().collect();
        for key in keys {
            let path = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            match self.rule_for(&path) {
                Some(Field {
                    replacement: Some(text),
                    ..
                }) => {
                    map.insert(key, Value::String(text.clone()));
                }
                Some(_) => {
                    map.remove(&key);
                }
                None => {
                    let value = map.get_mut(&key).expect("a key of its own");
                    let was_empty = is_empty(value);
                    self.clean(&path, value);
                    if is_empty(value) && !was_empty {
                        map.remove(&key);
                    }
                }
            }
        }
    }

    /// The output of a command with the rules for texts applied.
    pub(super) fn text(&self, command: &str, text: &str) -> String {
        let mut text = text.to_owned();
        for rule in &self.texts {
            if rule
                .commands
                .as_ref()
                .is_some_and(|commands| !commands.is_match(command))
            {
                continue;
            }
            if rule.pattern.matches(&text) {
                rule.pattern.count();
                text = rule
                    .pattern
                    .regex
                    .replace_all(&text, &rule.replacement)
                    .into_owned();
            }
        }
        text
    }

    /// Which of the lines by which the outputs of a command differ are not allowed.
    pub(super) fn not_allowed(&self, command: &str, lines: &[String]) -> Vec<String> {
        let allowed = |line: &str| self.rules_for(command).any(|rule| rule.matches(line));
        lines
            .iter()
            .filter(|line| !allowed(line))
            .cloned()
            .collect()
    }

    /// Notes which entries these lines have made use of.
    pub(super) fn note(&self, command: &str, lines: &[String]) {
        for rule in self.rules_for(command) {
            if lines.iter().any(|line| rule.matches(line)) {
                rule.count();
            }
        }
    }

    fn rules_for(&self, command: &str) -> impl Iterator<Item = &Rule> {
        let divergences = self.divergences.iter();
        divergences
            .filter(move |d| d.commands.is_match(command))
            .flat_map(|d| &d.lines)
    }

    /// Entries that were of no use: what they are about does not occur any more.
    pub(super) fn unused(&self) -> Vec<String> {
        let fields = self.fields.iter().map(|f| ("field", &f.path));
        let texts = self.texts.iter().map(|t| ("text", &t.pattern));
        let lines = self
            .divergences
            .iter()
            .flat_map(|d| d.lines.iter().map(|l| ("divergence", l)));
        fields
            .chain(texts)
            .chain(lines)
            .filter(|(_, rule)| !rule.is_used())
            .map(|(kind, rule)| format!("{kind}: {}", rule.regex))
            .collect()
    }

    /// The ledger for readers, as Markdown.
    pub(super) fn markdown(&self) -> String {
        let mut text =
            String::from("### Fields of objects\n\n| field | becomes | why |\n|---|---|---|\n");
        for field in &self.fields {
            let becomes = field
                .replacement
                .as_deref()
                .map_or("left out".to_owned(), code);
            row(
                &mut text,
                &[&code(plain(&field.path)), &becomes, &field.reason],
            );
        }
        text.push_str("\n### Texts\n\n| pattern | becomes | in | why |\n|---|---|---|---|\n");
        for rule in &self.texts {
            let commands = rule
                .commands
                .as_ref()
                .map_or("all".to_owned(), |c| code(c.as_str()));
            let pattern = code(plain(&rule.pattern));
            row(
                &mut text,
                &[&pattern, &code(&rule.replacement), &commands, &rule.reason],
            );
        }
        text.push_str(
            "\n### Allowed divergences\n\n\
             `-` is a line of the real cluster only, `+` one of the hub only.\n\n\
             | commands | lines | why |\n|---|---|---|\n",
        );
        for divergence in &self.divergences {
            let lines: Vec<String> = divergence.lines.iter().map(|l| code(plain(l))).collect();
            let cells = [
                &code(divergence.commands.as_str()),
                &lines.join("<br>"),
                &divergence.reason,
            ];
            row(&mut text, &cells.map(String::as_str));
        }
        text
    }
}

/// The pattern of a rule as the ledger has it.
fn plain(rule: &Rule) -> &str {
    let text = rule.regex.as_str();
    let text = text.strip_prefix("(?m)").unwrap_or(text);
    text.strip_prefix("^(?:")
        .and_then(|text| text.strip_suffix(")$"))
        .unwrap_or(text)
}

fn code(text: &str) -> String {
    let text = text.replace('|', "\\|");
    if text.is_empty() {
        "nothing".to_owned()
    } else {
        format!("`{text}`")
    }
}

fn row(text: &mut String, cells: &[&str]) {
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// One line a leaf, sorted by key; conditions by their type.
fn flatten(path: &str, value: &Value, text: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            for key in keys {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                flatten(&path, &map[key], text);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let by_type = path.ends_with("conditions");
            let mut items: Vec<(String, &Value)> = Vec::new();
            for (index, item) in list.iter().enumerate() {
                let kind = item["type"].as_str().filter(|_| by_type);
                items.push((kind.map_or_else(|| index.to_string(), str::to_owned), item));
            }
            if by_type {
                items.sort_by(|a, b| a.0.cmp(&b.0));
            }
            for (label, item) in items {
                flatten(&format!("{path}[{label}]"), item, text);
            }
        }
        leaf => {
            let _ = writeln!(text, "{path} = {leaf}");
        }
    }
}
