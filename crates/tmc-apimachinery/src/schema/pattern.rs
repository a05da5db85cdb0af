//! Regular expressions of schemas: Go's RE2 dialect, run by a linear-time engine within bounds.

use regex::{Regex, RegexBuilder};

/// Sizes of compiled programs that are tried in turn: what a pattern needs is charged to the
/// schema's budget.
const TIERS: [usize; 3] = [16 << 10, 64 << 10, 512 << 10];
/// Bytes of compiled programs that all patterns of one schema may take together.
const BUDGET: usize = 8 << 20;
/// Longest text matched against a small program, in bytes.
const LONG_TEXT: usize = 2 << 20;
/// Longest text matched against a large program, in bytes.
const SHORT_TEXT: usize = 64 << 10;

/// Memory left for the patterns of one schema.
#[derive(Debug)]
pub(super) struct PatternBudget(usize);

impl Default for PatternBudget {
    fn default() -> Self {
        Self(BUDGET)
    }
}

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    source: Box<str>,
    regex: Regex,
    longest: usize,
}

/// What came of matching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    /// The text is longer than what this pattern is run on; the limit in bytes.
    TooLong(usize),
}

impl Pattern {
    /// Compiles a pattern of Go's syntax.
    ///
    /// # Errors
    /// A sentence saying what is wrong or too large.
    pub(super) fn compile(source: &str, budget: &mut PatternBudget) -> Result<Self, String> {
        let translated = translate(source);
        for tier in TIERS {
            if tier > budget.0 {
                return Err("the schema's patterns are too large together".into());
            }
            let built = RegexBuilder::new(&translated)
                .size_limit(tier)
                .dfa_size_limit(tier)
                .build();
            match built {
                Ok(regex) => {
                    budget.0 -= tier;
                    let longest = if tier == TIERS[0] {
                        LONG_TEXT
                    } else {
                        SHORT_TEXT
                    };
                    return Ok(Self {
                        source: source.into(),
                        regex,
                        longest,
                    });
                }
                Err(regex::Error::CompiledTooBig(_)) => {}
                Err(error) => {
                    let text = error.to_string();
                    let last = text
                        .lines()
                        .rev()
                        .find(|l| !l.trim().is_empty())
                        .unwrap_or(&text);
                    let why = last.trim().trim_start_matches("error: ");
                    return Err(format!(
                        "must be a valid regular expression, but isn't: {why}"
                    ));
                }
            }
        }
        Err("must be a regular expression of moderate size: shorten its counted repetitions".into())
    }

    /// The pattern as written.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Matches anywhere in a text, as Go does.
    pub(super) fn matches(&self, text: &str) -> Match {
        if text.len() > self.longest {
            return Match::TooLong(self.longest);
        }
        if self.regex.is_match(text) {
            Match::Yes
        } else {
            Match::No
        }
    }
}

/// Rewrites what means something else, or nothing, to the `regex` crate: ASCII classes (`\d`,
/// `\w`, `\s`, `\b`), literal `[`, `&` and `~` within classes, literal braces, and groups, whose
/// captures nobody asks for.
fn translate(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 16);
    let chars: Vec<char> = source.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            '\\' => at = escape(&chars, at, false, &mut out),
            '[' => at = class(&chars, at, &mut out),
            '(' if chars.get(at + 1) != Some(&'?') => {
                out.push_str("(?:");
                at += 1;
            }
            '{' if !counted(&chars[at..]) => {
                out.push_str(r"\{");
                at += 1;
            }
            c => {
                out.push(c);
                at += 1;
            }
        }
    }
    out
}

/// Whether a brace opens a repetition `{2}`, `{2,}` or `{2,3}`; else it is a literal.
fn counted(rest: &[char]) -> bool {
    let inner: String = rest[1..]
        .iter()
        .take(16)
        .take_while(|c| **c != '}')
        .collect();
    let closed = rest.get(1 + inner.chars().count()) == Some(&'}');
    let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    closed
        && match inner.split_once(',') {
            None => number(&inner),
            Some((low, high)) => number(low) && (high.is_empty() || number(high)),
        }
}

/// Copies an escape sequence at `at` and returns where the text goes on.
fn escape(chars: &[char], at: usize, in_class: bool, out: &mut String) -> usize {
    let Some(&c) = chars.get(at + 1) else {
        out.push('\\');
        return at + 1;
    };
    let ascii = match c.to_ascii_lowercase() {
        'd' => Some("0-9"),
        'w' => Some("0-9A-Za-z_"),
        's' => Some(r"\t\n\f\r "),
        _ => None,
    };
    match (ascii, c) {
        (Some(set), 'd' | 'w' | 's') if in_class => out.push_str(set),
        (Some(set), 'd' | 'w' | 's') => out.extend(["[", set, "]"]),
        (Some(set), _) => out.extend(["[^", set, "]"]),
        (None, 'b') if !in_class => out.push_str(r"(?-u:\b)"),
        (None, c) => out.extend(['\\', c]),
    }
    at + 2
}

/// Copies a bracketed class at `at` and returns where the text goes on.
fn class(chars: &[char], mut at: usize, out: &mut String) -> usize {
    out.push('[');
    at += 1;
    if chars.get(at) == Some(&'^') {
        out.push('^');
        at += 1;
    }
    if chars.get(at) == Some(&']') {
        out.push_str(r"\]");
        at += 1;
    }
    while let Some(&c) = chars.get(at) {
        match c {
            ']' => {
                out.push(']');
                return at + 1;
            }
            '\\' => at = escape(chars, at, true, out),
            '[' if chars.get(at + 1) == Some(&':') => {
                let end = (at + 2..chars.len().saturating_sub(1))
                    .find(|&i| chars[i] == ':' && chars[i + 1] == ']');
                let Some(end) = end else {
                    out.push_str(r"\[");
                    at += 1;
                    continue;
                };
                out.extend(&chars[at..end + 2]);
                at = end + 2;
            }
            '[' | '&' | '~' => {
                out.extend(['\\', c]);
                at += 1;
            }
            '-' if chars.get(at + 1) == Some(&'-') => {
                out.push_str(r"-\-");
                at += 2;
            }
            c => {
                out.push(c);
                at += 1;
            }
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        let compiled = Pattern::compile(pattern, &mut PatternBudget::default()).expect(pattern);
        compiled.matches(text) == Match::Yes
    }

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, text, expected) in [
            (r"^\d+$", "12", true),
            (r"^\d+$", "١٢", false), // Unicode digits are no digits in RE2
            (r"^[\d.]+$", "1.2", true),
            (r"^\W$", "ä", true),
            (r"^[^\W]$", "a", true),
            (r"\bfoo\b", "a foo b", true),
            ("b", "abc", true), // not anchored
            ("^[a[b]$", "[", true),
            ("^[a&&b]$", "&", true),
            ("^[]a]$", "]", true),
            ("^[[:alpha:]]+$", "ab", true),
            ("^a{2,3}$", "aaa", true),
            (r"^\${name}$", "${name}", true),
            ("^(a|b)(?:c)$", "bc", true),
            ("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "a-b", true),
            (r"^[+--]$", ",", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn what_cannot_be_run_in_linear_time_is_refused_with_a_reason() {
        for pattern in [r"(?=a)b", r"(a)\1", "(", "[", r"a{1001}{1000}"] {
            let error =
                Pattern::compile(pattern, &mut PatternBudget::default()).expect_err(pattern);
            assert!(error.contains("regular expression"), "{error}");
        }
    }

    #[test]
    fn patterns_together_stay_within_a_budget() {
        let mut budget = PatternBudget::default();
        let mut compiled = 0;
        while Pattern::compile(r"^[a-z]{1,200}$", &mut budget).is_ok() {
            compiled += 1;
            assert!(compiled < 2000);
        }
        assert!(compiled > 10, "{compiled}");
    }

    #[test]
    fn a_text_too_long_for_a_large_pattern_is_not_matched() {
        let pattern = Pattern::compile(r"^(\w{1,200}x){1,3}$", &mut PatternBudget::default());
        let pattern = pattern.expect("compiles");
        assert!(matches!(
            pattern.matches(&"a".repeat(3 << 20)),
            Match::TooLong(_)
        ));
    }
}
