//! The commands in our documents, as values: which fenced blocks are run, and
//! the script that runs them. Pure; [`crate::run_docs`] executes it.
//!
//! A fenced block whose info string is `sh` is run; `sh no-test` and every
//! other info string (`console`, `text`, …) is not. All blocks of a document
//! are one script under `set -euo pipefail`, so that a variable or a
//! background process of one block serves the next.

use std::fmt::Write as _;

/// A fenced block to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The line of the opening fence, counted from 1.
    pub(crate) line: usize,
    /// The lines between the fences, without the indentation of the fence.
    pub(crate) lines: Vec<String>,
}

/// The blocks of a Markdown document that are to be run, in order.
///
/// # Errors
/// A sentence that names the line when a fence is never closed.
pub(crate) fn blocks(markdown: &str) -> Result<Vec<Block>, String> {
    let mut found = Vec::new();
    let mut lines = markdown.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let Some(fence) = Fence::open(line) else {
            continue;
        };
        let opened = index + 1;
        let mut content = Vec::new();
        loop {
            match lines.next() {
                None => return Err(format!("the code block of line {opened} is never closed")),
                Some((_, line)) if fence.is_closed_by(line) => break,
                Some((_, line)) => content.push(fence.unindented(line).to_owned()),
            }
        }
        if fence.is_run() {
            found.push(Block {
                line: opened,
                lines: content,
            });
        }
    }
    Ok(found)
}

/// The opening fence of a code block.
struct Fence<'a> {
    indent: usize,
    mark: char,
    length: usize,
    info: &'a str,
}

impl<'a> Fence<'a> {
    fn open(line: &'a str) -> Option<Self> {
        let text = line.trim_start();
        let mark = text.chars().next().filter(|c| matches!(c, '`' | '~'))?;
        let info = text.trim_start_matches(mark);
        let length = text.len() - info.len();
        let inline = mark == '`' && info.contains('`');
        (length >= 3 && !inline).then(|| Self {
            indent: line.len() - text.len(),
            mark,
            length,
            info: info.trim(),
        })
    }

    fn is_run(&self) -> bool {
        let mut words = self.info.split_whitespace();
        words.next() == Some("sh") && !words.any(|word| word == "no-test")
    }

    fn is_closed_by(&self, line: &str) -> bool {
        let text = line.trim();
        text.len() >= self.length && text.chars().all(|c| c == self.mark)
    }

    fn unindented<'l>(&self, line: &'l str) -> &'l str {
        let spaces = line.len() - line.trim_start_matches([' ', '\t']).len();
        &line[spaces.min(self.indent)..]
    }
}

/// What begins the line that tells which block a script has reached.
pub(crate) const MARK: &str = "::: ";

/// A script made of the blocks of one document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// Bash. Line N of a block is line N of the script, so that what bash
    /// reports about a line holds for the document.
    pub(crate) text: String,
    /// Sentences about lines that are not run as they stand.
    pub(crate) notes: Vec<String>,
}

/// Ends the script at the first command that fails, and names it.
const PREAMBLE: &str =
    r#"set -Eeuo pipefail; trap 'echo "line $LINENO failed with $?: $BASH_COMMAND" >&2' ERR"#;

/// The script that runs `blocks` of the document `name`.
pub(crate) fn script(name: &str, blocks: &[Block]) -> Script {
    let mut text = String::from(PREAMBLE);
    let mut notes = Vec::new();
    let mut at = 1;
    for block in blocks {
        // The marker stands on the line of the opening fence, which is never
        // a line of a block; the preamble shares line 1.
        if block.line == 1 {
            text.push_str("; ");
        }
        while at < block.line {
            text.push('\n');
            at += 1;
        }
        let _ = write!(text, "echo '{MARK}{name}:{}'", block.line);
        for line in &block.lines {
            at += 1;
            let run = match adapted(line) {
                None => line.clone(),
                Some(change) => {
                    notes.push(format!("{name}:{at}: `{}` {}", line.trim(), change.note));
                    change.line
                }
            };
            let _ = write!(text, "\n{run}");
        }
    }
    text.push('\n');
    Script { text, notes }
}

struct Change {
    line: String,
    note: &'static str,
}

/// The two commands of the quick start that cannot be run as they stand.
fn adapted(line: &str) -> Option<Change> {
    let words: Vec<&str> = line
        .split_whitespace()
        .take_while(|word| !word.starts_with('#'))
        .collect();
    match words.as_slice() {
        ["cargo", "xtask", "test", ..] => Some(Change {
            line: ": cargo xtask test".to_owned(),
            note: "is not run again: it is what runs this document",
        }),
        ["cargo", "run", "--release", "--", "quickstart", rest @ ..]
            if !rest.contains(&"--once") =>
        {
            Some(Change {
                line: format!("{} --once", words.join(" ")),
                note: "runs until Ctrl-C: it is run with --once",
            })
        }
        _ => None,
    }
}

/// What the script needs that may be missing on a machine.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct Needs {
    /// `kubectl`, from the real programs or from the PATH.
    pub(crate) kubectl: bool,
    /// The folder of the real programs.
    pub(crate) real: bool,
    /// A release build of `tmc`, made beforehand so that it does not count
    /// against the time of the document.
    pub(crate) release: bool,
}

impl Script {
    /// What the script needs.
    pub(crate) fn needs(&self) -> Needs {
        let names = |words: &[&str]| words.iter().any(|word| self.text.contains(word));
        Needs {
            kubectl: names(&["kubectl"]),
            real: names(&["target/testbin", "KUBEBUILDER_ASSETS", "kube-apiserver"]),
            release: names(&["--release", "target/release"]),
        }
    }
}

/// The part of the output that belongs to the block reached last, and the
/// place of that block.
pub(crate) fn last_block(output: &str) -> (Option<&str>, &str) {
    let start = output
        .match_indices(MARK)
        .map(|(start, _)| start)
        .filter(|&start| start == 0 || output[..start].ends_with('\n'))
        .last();
    let Some(start) = start else {
        return (None, output);
    };
    let (place, rest) = output[start + MARK.len()..]
        .split_once('\n')
        .unwrap_or((&output[start + MARK.len()..], ""));
    (Some(place), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(markdown: &str) -> Vec<(usize, String)> {
        blocks(markdown)
            .unwrap()
            .into_iter()
            .map(|block| (block.line, block.lines.join("\n")))
            .collect()
    }

    #[test]
    fn only_blocks_marked_sh_are_run() {
        let markdown = "# T\n```sh\na\nb\n```\n```console\n$ c\n```\n```\nd\n```\n```text\ne\n```\n```sh\nf\n```\n";
        assert_eq!(
            found(markdown),
            [(2, "a\nb".to_owned()), (15, "f".to_owned())]
        );
    }

    #[test]
    fn a_block_marked_no_test_is_not_run() {
        assert_eq!(found("```sh no-test\na\n```\n"), []);
        assert_eq!(found("```shell\na\n```\n"), []);
    }

    #[test]
    fn a_block_in_a_list_loses_the_indentation_of_its_fence_only() {
        assert_eq!(
            found("1. x\n\n   ```sh\n   a\n     b\n\n   ```\n"),
            [(3, "a\n  b\n".to_owned())]
        );
    }

    #[test]
    fn a_longer_fence_holds_a_shorter_one() {
        assert_eq!(found("````text\n```sh\na\n```\n````\n"), []);
        assert_eq!(found("~~~sh\n```\n~~~\n"), [(1, "```".to_owned())]);
    }

    #[test]
    fn code_in_a_line_of_text_opens_no_block() {
        assert_eq!(found("```sh``` is how a block begins\n"), []);
    }

    #[test]
    fn a_block_that_is_never_closed_is_an_error_with_its_line() {
        assert_eq!(
            blocks("a\n```sh\nb\n").unwrap_err(),
            "the code block of line 2 is never closed"
        );
    }

    #[test]
    fn a_line_of_the_script_has_the_number_it_has_in_the_document() {
        let markdown = "# T\n\n```sh\na\n```\n\n```sh\nb\nc\n```\n";
        let script = script("T.md", &blocks(markdown).unwrap());
        let lines: Vec<&str> = script.text.lines().collect();
        assert_eq!(lines[0], PREAMBLE);
        assert_eq!((lines[2], lines[3]), ("echo '::: T.md:3'", "a"));
        assert_eq!(
            (lines[6], lines[7], lines[8]),
            ("echo '::: T.md:7'", "b", "c")
        );
        assert_eq!(script.notes, [] as [String; 0]);
    }

    #[test]
    fn a_block_on_the_first_line_is_preceded_by_the_preamble() {
        let script = script("T.md", &blocks("```sh\na\n```\n").unwrap());
        assert_eq!(script.text, format!("{PREAMBLE}; echo '::: T.md:1'\na\n"));
    }

    #[test]
    fn the_quick_start_is_run_once_and_the_test_command_is_not_repeated_and_both_are_said() {
        let markdown =
            "```sh\ncargo run --release -- quickstart   # Ctrl-C ends it\ncargo xtask test\n```\n";
        let script = script("README.md", &blocks(markdown).unwrap());
        assert!(
            script
                .text
                .contains("\ncargo run --release -- quickstart --once\n: cargo xtask test\n")
        );
        assert_eq!(script.notes.len(), 2);
        assert!(script.notes[0].starts_with("README.md:2: `cargo run --release -- quickstart"));
        assert!(script.notes[1].starts_with("README.md:3: `cargo xtask test` is not run again"));
    }

    #[test]
    fn a_quick_start_with_once_is_run_as_it_stands() {
        let script = script(
            "README.md",
            &blocks("```sh\ncargo run --release -- quickstart --once\n```\n").unwrap(),
        );
        assert_eq!(script.notes, [] as [String; 0]);
    }

    #[test]
    fn a_script_names_what_it_needs() {
        let needs = |line: &str| {
            script(
                "T.md",
                &[Block {
                    line: 1,
                    lines: vec![line.to_owned()],
                }],
            )
            .needs()
        };
        assert_eq!(needs("echo"), Needs::default());
        assert_eq!(
            needs("kubectl get x"),
            Needs {
                kubectl: true,
                ..Needs::default()
            }
        );
        assert_eq!(
            needs("target/testbin/etcd"),
            Needs {
                real: true,
                ..Needs::default()
            }
        );
        assert_eq!(
            needs("cargo build --release"),
            Needs {
                release: true,
                ..Needs::default()
            }
        );
    }

    #[test]
    fn the_output_of_a_failure_is_that_of_the_last_block() {
        assert_eq!(
            last_block("::: T.md:3\na\n::: T.md:7\nb\nc\n"),
            (Some("T.md:7"), "b\nc\n")
        );
        assert_eq!(
            last_block("::: T.md:3\nx ::: y\n"),
            (Some("T.md:3"), "x ::: y\n")
        );
        assert_eq!(last_block("no bash\n"), (None, "no bash\n"));
    }
}
