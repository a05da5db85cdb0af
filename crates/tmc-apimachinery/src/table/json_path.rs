//! The JSONPath subset of `additionalPrinterColumns`: `.a.b`, `..b`, `[0]`, `['a.b']`, `[*]`, slices,
//! `[?(@.type=="Ready")]` and `\.` escapes.

use std::fmt;

use serde_json::Value;

/// Most steps of one path.
const MAX_STEPS: usize = 64;
/// Deepest place that `..` looks at.
const MAX_DEPTH: usize = 128;

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    /// Every field of a name at any depth (`..name`).
    Descendant(String),
    /// From the end if negative.
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    All,
    Filter {
        path: JsonPath,
        test: Option<(Operator, Value)>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Why a path is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPathError(String);

impl fmt::Display for JsonPathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for JsonPathError {}

type Parsed<T> = Result<T, JsonPathError>;

fn error<T>(text: impl Into<String>) -> Parsed<T> {
    Err(JsonPathError(text.into()))
}

impl JsonPath {
    /// Reads a path; a leading `$` and enclosing braces are optional.
    ///
    /// # Errors
    /// What in it is not supported, for the `jsonPath` field of a column.
    pub fn parse(text: &str) -> Parsed<Self> {
        let text = text.trim();
        let text = text
            .strip_prefix('{')
            .and_then(|t| t.strip_suffix('}'))
            .unwrap_or(text);
        let text = text.strip_prefix('$').unwrap_or(text);
        if !text.starts_with(['.', '[']) {
            return error("must start with a dot: .spec.field");
        }
        let chars: Vec<char> = text.chars().collect();
        Parser {
            chars: &chars,
            at: 0,
        }
        .path(false)
    }

    /// The values that the path names, in document order; nothing where a step finds nothing.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![value];
        for step in &self.steps {
            found = found.into_iter().flat_map(|v| step.apply(v)).collect();
        }
        found
    }

    /// The first value that the path names.
    pub fn first<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.find(value).into_iter().next()
    }
}

impl Step {
    fn apply<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match (self, value) {
            (Self::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
            (Self::Descendant(name), value) => {
                let mut found = Vec::new();
                descend(name, value, 0, &mut found);
                found
            }
            (Self::Index(index), Value::Array(list)) => position(*index, list.len())
                .and_then(|i| list.get(i))
                .into_iter()
                .collect(),
            (Self::Slice(start, end), Value::Array(list)) => {
                let bound = |at: i64| position(at, list.len()).unwrap_or(0).min(list.len());
                let (start, end) = (start.map_or(0, bound), end.map_or(list.len(), bound));
                list.get(start..end).unwrap_or_default().iter().collect()
            }
            (Self::All, Value::Array(list)) => list.iter().collect(),
            (Self::All, Value::Object(map)) => map.values().collect(),
            (Self::Filter { path, test }, Value::Array(list)) => list
                .iter()
                .filter(|item| passes(path, test.as_ref(), item))
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// Collects fields of a name, a value's own before those further down.
fn descend<'v>(name: &str, value: &'v Value, depth: usize, found: &mut Vec<&'v Value>) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Object(map) => {
            found.extend(map.get(name));
            map.values()
                .for_each(|v| descend(name, v, depth + 1, found));
        }
        Value::Array(list) => list.iter().for_each(|v| descend(name, v, depth + 1, found)),
        _ => {}
    }
}

fn position(index: i64, length: usize) -> Option<usize> {
    let from_end = || i64::try_from(length).ok()?.checked_add(index);
    usize::try_from(if index < 0 { from_end()? } else { index }).ok()
}

fn passes(path: &JsonPath, test: Option<&(Operator, Value)>, item: &Value) -> bool {
    let Some(left) = path.first(item) else {
        return false;
    };
    let Some((operator, right)) = test else {
        return true;
    };
    let order = match (left, right) {
        (Value::Number(a), Value::Number(b)) => a
            .as_f64()
            .zip(b.as_f64())
            .and_then(|(a, b)| a.partial_cmp(&b)),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    };
    order.is_some_and(|order| match operator {
        Operator::Equal => order.is_eq(),
        Operator::NotEqual => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        Operator::GreaterOrEqual => order.is_ge(),
    })
}

struct Parser<'c> {
    chars: &'c [char],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn eat(&mut self, wanted: &str) -> bool {
        let wanted: Vec<char> = wanted.chars().collect();
        let found = self.chars[self.at..].starts_with(&wanted);
        self.at += if found { wanted.len() } else { 0 };
        found
    }

    fn expect(&mut self, wanted: &str) -> Parsed<()> {
        self.spaces();
        if self.eat(wanted) {
            Ok(())
        } else {
            error(format!("expected {wanted:?}"))
        }
    }

    fn spaces(&mut self) {
        while self.peek() == Some(' ') {
            self.at += 1;
        }
    }

    /// Steps up to the end, or within a filter up to what is no step.
    fn path(&mut self, in_filter: bool) -> Parsed<JsonPath> {
        let mut steps = Vec::new();
        while let Some(c) = self.peek() {
            match c {
                '.' => {
                    self.at += 1;
                    match self.peek() {
                        Some('.') => {
                            // A second one could name one value as often as it is nested.
                            if steps.iter().any(|s| matches!(s, Step::Descendant(_))) {
                                return error("recursive descent (..) is supported once in a path");
                            }
                            self.at += 1;
                            steps.push(Step::Descendant(self.name()?));
                        }
                        Some('*') => {
                            self.at += 1;
                            steps.push(Step::All);
                        }
                        // `.` alone is the whole value; `.[0]` is `[0]`.
                        None | Some('[') => {}
                        Some(_) => steps.push(Step::Field(self.name()?)),
                    }
                }
                '[' => {
                    self.at += 1;
                    steps.push(self.bracket(in_filter)?);
                }
                _ if in_filter => break,
                c => return error(format!("unexpected {c:?}")),
            }
            if steps.len() > MAX_STEPS {
                return error(format!("must not have more than {MAX_STEPS} steps"));
            }
        }
        Ok(JsonPath { steps })
    }

    fn name(&mut self) -> Parsed<String> {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            match c {
                '\\' => {
                    self.at += 1;
                    let Some(escaped) = self.peek() else {
                        return error("ends in an escape");
                    };
                    name.push(escaped);
                }
                '.' | '[' | ']' | '{' | '}' | '$' | '@' | ',' | '(' | ')' => break,
                '=' | '!' | '<' | '>' => break,
                c if c.is_whitespace() => break,
                c => name.push(c),
            }
            self.at += 1;
        }
        if name.is_empty() {
            error("a field name is missing after a dot")
        } else {
            Ok(name)
        }
    }

    fn bracket(&mut self, in_filter: bool) -> Parsed<Step> {
        self.spaces();
        let step = match self.peek() {
            Some(quote @ ('\'' | '"')) => Step::Field(self.quoted(quote)?),
            Some('*') => {
                self.at += 1;
                Step::All
            }
            Some('?') if in_filter => return error("a filter within a filter is not supported"),
            Some('?') => self.filter()?,
            _ => self.indices()?,
        };
        self.expect("]")?;
        Ok(step)
    }

    fn quoted(&mut self, quote: char) -> Parsed<String> {
        self.at += 1;
        let mut text = String::new();
        while let Some(c) = self.peek() {
            self.at += 1;
            match c {
                c if c == quote => return Ok(text),
                '\\' => {
                    text.extend(self.peek());
                    self.at += 1;
                }
                c => text.push(c),
            }
        }
        error("unterminated quoted string")
    }

    fn indices(&mut self) -> Parsed<Step> {
        let start = self.integer()?;
        if !self.eat(":") {
            return match start {
                Some(index) => Ok(Step::Index(index)),
                None => error("expected an index, a name in quotes, * or a filter in brackets"),
            };
        }
        Ok(Step::Slice(start, self.integer()?))
    }

    fn integer(&mut self) -> Parsed<Option<i64>> {
        let start = self.at;
        self.eat("-");
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().collect();
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .or_else(|_| error(format!("invalid index {text:?}")))
    }

    fn filter(&mut self) -> Parsed<Step> {
        self.expect("?")?;
        self.expect("(")?;
        self.expect("@")?;
        let path = self.path(true)?;
        self.spaces();
        let operators = [
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        let operator = operators
            .into_iter()
            .find(|(text, _)| self.eat(text))
            .map(|(_, o)| o);
        let test = match operator {
            Some(operator) => Some((operator, self.literal()?)),
            None => None,
        };
        self.expect(")")?;
        Ok(Step::Filter { path, test })
    }

    fn literal(&mut self) -> Parsed<Value> {
        self.spaces();
        if let Some(quote @ ('\'' | '"')) = self.peek() {
            return self.quoted(quote).map(Value::String);
        }
        let start = self.at;
        while self.peek().is_some_and(|c| c != ')' && c != ' ') {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().collect();
        match serde_json::from_str(&text) {
            Ok(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value),
            _ => error(format!(
                "expected a string in quotes, a number or a boolean, not {text:?}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_name_what_printer_columns_mean() {
        let object = json!({
            "a": {"b": 1, "x.y": 2, "k/z": 3},
            "l": [{"type": "Ready", "status": "True", "n": 1}, {"type": "Live", "status": "False", "n": 2}],
        });
        for (path, expected) in [
            (".a.b", json!([1])),
            ("{.a.b}", json!([1])),
            ("$.a.b", json!([1])),
            (".a['x.y']", json!([2])),
            (".a[\"x.y\"]", json!([2])),
            (r".a.x\.y", json!([2])),
            (".a.k/z", json!([3])),
            (".a.*", json!([1, 3, 2])),
            (".l[0].n", json!([1])),
            (".l[-1].n", json!([2])),
            (".l[7].n", json!([])),
            (".l[-7].n", json!([])),
            (".l[*].n", json!([1, 2])),
            (".l[0:1].n", json!([1])),
            (".l[1:].n", json!([2])),
            (".l[:].n", json!([1, 2])),
            (".l[9:2].n", json!([])),
            (".l[?(@.type==\"Ready\")].status", json!(["True"])),
            (".l[?(@.type == 'Live')].status", json!(["False"])),
            (".l[?(@.n>1)].type", json!(["Live"])),
            (".l[?(@.n<=1)].type", json!(["Ready"])),
            (".l[?(@.n>=2)].type", json!(["Live"])),
            (".l[?(@.n<2)].type", json!(["Ready"])),
            (".l[?(@.type!=\"Ready\")].n", json!([2])),
            (".l[?(@.missing)].n", json!([])),
            (".l[?(@['type'])].n", json!([1, 2])),
            (".l[?(@.n==\"1\")].n", json!([])),
            ("..status", json!(["True", "False"])),
            (".a..b", json!([1])),
            (".none.at.all", json!([])),
            (".a.b.c", json!([])),
        ] {
            let parsed = JsonPath::parse(path).unwrap_or_else(|e| panic!("{path}: {e}"));
            assert_eq!(json!(parsed.find(&object)), expected, "{path}");
        }
        assert_eq!(
            JsonPath::parse(".").expect("whole").first(&object),
            Some(&object)
        );
    }

    #[test]
    fn what_is_not_understood_is_refused_with_a_reason() {
        for (path, why) in [
            ("", "must start with a dot"),
            ("a.b", "must start with a dot"),
            ("..a..b", "recursive descent"),
            ("..", "a field name is missing"),
            (".a.[", "expected an index"),
            (".a[", "expected an index"),
            (".a[x]", "expected an index"),
            (".a[-]", "invalid index"),
            (".a['x", "unterminated"),
            (".a[0", "expected \"]\""),
            (".a.\\", "ends in an escape"),
            (".a.,", "a field name is missing"),
            (".a b", "unexpected ' '"),
            (".a[?(@.x==y)]", "expected a string in quotes"),
            (".a[?(@.x[?(@.y)])]", "a filter within a filter"),
            (".a[?(x)]", "expected \"@\""),
        ] {
            let error = JsonPath::parse(path).expect_err(path).to_string();
            assert!(error.contains(why), "{path}: {error}");
        }
        assert!(JsonPath::parse(&".a".repeat(100)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_parsing_or_finding_panic(text in r#"[.\[\]a-c?(@)="'0-9:*\\ {}-]{0,24}"#) {
            if let Ok(path) = JsonPath::parse(&format!(".{text}")) {
                path.find(&json!({"a": [{"b": 1}, "c"], "b": {"a": {}}}));
            }
        }
    }
}
