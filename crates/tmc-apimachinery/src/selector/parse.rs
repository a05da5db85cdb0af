//! The text form of label selectors (grammar of `k8s.io/apimachinery/pkg/labels.Parse`).
//!
//! `in` and `notin` are operators only where an operator is expected; elsewhere they are plain
//! words. `()` holds one empty value; blanks separate words and mean nothing else.

use super::{Operator, Requirement};
use crate::meta::{label_value_faults, qualified_name_faults};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    /// One of `! = == != > < ( ) ,`.
    Symbol(&'a str),
    End,
}

impl Token<'_> {
    fn text(&self) -> &str {
        match self {
            Token::Word(text) | Token::Symbol(text) => text,
            Token::End => "",
        }
    }
}

struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Token<'a> {
        let (token, length) = self.scan();
        let blanks = self.rest.len() - self.rest.trim_start_matches(is_blank).len();
        self.rest = &self.rest[blanks + length..];
        token
    }

    fn peek(&self) -> Token<'a> {
        self.scan().0
    }

    /// The next token and its length, blanks before it not counted.
    fn scan(&self) -> (Token<'a>, usize) {
        let text = self.rest.trim_start_matches(is_blank);
        let Some(first) = text.chars().next() else {
            return (Token::End, 0);
        };
        let length = if text.starts_with("==") || text.starts_with("!=") {
            2
        } else if is_symbol(first) {
            1
        } else {
            let end = text
                .find(|c| is_symbol(c) || is_blank(c))
                .unwrap_or(text.len());
            return (Token::Word(&text[..end]), end);
        };
        (Token::Symbol(&text[..length]), length)
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_symbol(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

/// Reads a comma-separated list of requirements; empty text is an empty list.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, String> {
    let mut tokens = Tokens { rest: text };
    let mut found = Vec::new();
    match tokens.peek() {
        Token::End => return Ok(found),
        Token::Word(_) | Token::Symbol("!") => {}
        other => {
            return Err(format!(
                "found '{}', expected: !, identifier, or 'end of string'",
                other.text()
            ));
        }
    }
    loop {
        let requirement = requirement(&mut tokens);
        found.push(requirement.map_err(|e| format!("unable to parse requirement: {e}"))?);
        match tokens.next() {
            Token::End => return Ok(found),
            Token::Symbol(",") => {}
            other => {
                return Err(format!(
                    "found '{}', expected: ',' or 'end of string'",
                    other.text()
                ));
            }
        }
        match tokens.peek() {
            Token::Word(_) | Token::Symbol("!") => {}
            other => {
                return Err(format!(
                    "found '{}', expected: identifier after ','",
                    other.text()
                ));
            }
        }
    }
}

fn requirement(tokens: &mut Tokens<'_>) -> Result<Requirement, String> {
    let mut token = tokens.next();
    let negated = token == Token::Symbol("!");
    if negated {
        token = tokens.next();
    }
    let Token::Word(key) = token else {
        return Err(format!("found '{}', expected: identifier", token.text()));
    };
    check("key", key, qualified_name_faults(key))?;
    let operator = match (negated, tokens.peek()) {
        (true, _) => Operator::DoesNotExist,
        (false, Token::End | Token::Symbol(",")) => Operator::Exists,
        (false, _) => operator(tokens, key)?,
    };
    Ok(Requirement {
        key: key.to_owned(),
        operator,
    })
}

fn check(field: &str, text: &str, faults: Vec<String>) -> Result<(), String> {
    if faults.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{field}: Invalid value: {text:?}: {}",
        faults.join("; ")
    ))
}

fn operator(tokens: &mut Tokens<'_>, key: &str) -> Result<Operator, String> {
    let token = tokens.next();
    Ok(match token {
        Token::Word("in") => Operator::In(values(tokens, key)?),
        Token::Word("notin") => Operator::NotIn(values(tokens, key)?),
        Token::Symbol("=" | "==") => Operator::In(vec![value(tokens, key)?]),
        Token::Symbol("!=") => Operator::NotIn(vec![value(tokens, key)?]),
        Token::Symbol(">") => Operator::GreaterThan(number(tokens, key)?),
        Token::Symbol("<") => Operator::LessThan(number(tokens, key)?),
        other => {
            return Err(format!(
                "found '{}', expected: in, notin, =, ==, !=, gt, lt",
                other.text()
            ));
        }
    })
}

/// The value after `=`; nothing there means the empty value.
fn value(tokens: &mut Tokens<'_>, key: &str) -> Result<String, String> {
    if matches!(tokens.peek(), Token::End | Token::Symbol(",")) {
        return Ok(String::new());
    }
    match tokens.next() {
        Token::Word(text) => {
            check(&format!("values[0][{key}]"), text, label_value_faults(text))?;
            Ok(text.to_owned())
        }
        other => Err(format!("found '{}', expected: identifier", other.text())),
    }
}

fn number(tokens: &mut Tokens<'_>, key: &str) -> Result<i64, String> {
    let text = value(tokens, key)?;
    text.parse().map_err(|_| {
        format!(
            "values[0]: Invalid value: {text:?}: for 'Gt', 'Lt' operators, the value must be an integer"
        )
    })
}

/// The values in parentheses; an empty place between commas is the empty value.
fn values(tokens: &mut Tokens<'_>, key: &str) -> Result<Vec<String>, String> {
    match tokens.next() {
        Token::Symbol("(") => {}
        other => return Err(format!("found '{}' expected: '('", other.text())),
    }
    let mut values = Vec::new();
    loop {
        let text = match tokens.peek() {
            Token::Word(text) => {
                tokens.next();
                text
            }
            _ => "",
        };
        check(
            &format!("values[{}][{key}]", values.len()),
            text,
            label_value_faults(text),
        )?;
        values.push(text.to_owned());
        match tokens.next() {
            Token::Symbol(",") => {}
            Token::Symbol(")") => return Ok(values),
            other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
        }
    }
}
