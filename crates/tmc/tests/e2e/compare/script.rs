//! The commands that are compared, read from `script.txt`.

/// How a command is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Once.
    Do,
    /// Again until the outputs agree.
    See,
    /// Only to wait for something.
    Settle,
    /// Only to wait for something on the real cluster.
    Await,
    /// `kubectl edit`, with sed and this expression as the editor.
    Edit(String),
    /// As a user with few rights; again until the outputs agree.
    Viewer,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) mode: Mode,
    /// The line without its mode: what ledger entries select by.
    pub(super) command: String,
    pub(super) args: Vec<String>,
}

/// The commands of this repository.
pub(super) fn load() -> Vec<Step> {
    let lines = include_str!("script.txt").lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(step)
        .collect()
}

fn step(line: &str) -> Step {
    let (mode, rest) = line.split_once(' ').expect("a mode and a command");
    let (mode, rest) = match mode {
        "do" => (Mode::Do, rest),
        "see" => (Mode::See, rest),
        "settle" => (Mode::Settle, rest),
        "await" => (Mode::Await, rest),
        "viewer" => (Mode::Viewer, rest),
        "edit" => {
            let (expression, rest) = rest.split_once(' ').expect("an expression and arguments");
            return Step {
                mode: Mode::Edit(expression.to_owned()),
                command: format!("edit {rest}"),
                args: std::iter::once("edit".to_owned())
                    .chain(words(rest))
                    .collect(),
            };
        }
        other => panic!("script.txt: no mode {other}"),
    };
    Step {
        mode,
        command: rest.to_owned(),
        args: words(rest),
    }
}

/// Splits at blanks outside of double quotes that open at the start of a word.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').expect("a closing quote"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

#[test]
fn quotes_keep_blanks_together_and_stay_in_json() {
    assert_eq!(
        words(r#"a "b c" -p {"d":"e"}"#),
        ["a", "b c", "-p", r#"{"d":"e"}"#]
    );
    assert_eq!(words(r#""*" "*""#), ["*", "*"]);
}
