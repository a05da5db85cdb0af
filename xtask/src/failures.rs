//! What failed in a run of `cargo test`, read from its output, so that it can be said again at the
//! end: a log that somebody cut to its last page still names the test and its reason. Pure.

/// The lines of one failed test that are kept; what a test printed before is seldom its reason.
const LINES_OF_A_TEST: usize = 40;

/// Reads the lines that test programs print.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    reports: Vec<Vec<String>>,
    within: bool,
}

impl Failures {
    /// Takes the next line.
    pub(crate) fn line(&mut self, line: &str) {
        if line.starts_with("test result: ") || line == "failures:" {
            // Between a program's two lines `failures:` are the reports, after the second only names.
            self.within = line == "failures:" && !self.within;
        } else if self.within && line.starts_with("---- ") {
            self.reports.push(vec![line.to_owned()]);
        } else if self.within
            && let Some(report) = self.reports.last_mut()
        {
            report.push(line.to_owned());
        }
    }

    /// The reports of all failed tests, shortened; empty if none failed.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for report in &self.reports {
            let (title, lines) = report.split_first().expect("it begins with its title");
            let end = lines.iter().rposition(|line| !line.is_empty());
            let lines = &lines[..end.map_or(0, |last| last + 1)];
            let hidden = lines.len().saturating_sub(LINES_OF_A_TEST);
            text.push_str(&format!("\n{title}\n"));
            if hidden > 0 {
                text.push_str(&format!("[{hidden} lines above]\n"));
            }
            for line in &lines[hidden..] {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(output: &str) -> String {
        let mut failures = Failures::default();
        output.lines().for_each(|line| failures.line(line));
        failures.text()
    }

    #[test]
    fn reports_of_failed_tests_are_kept_and_nothing_else() {
        let output = "\
running 3 tests
test a ... ok
test b ... FAILED
test c ... FAILED

failures:

---- b stdout ----
thread 'b' panicked at src/b.rs:1:2:
no


---- c stdout ----
thread 'c' panicked at src/c.rs:1:2:
neither

failures:
    b
    c

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out

running 1 test
test d ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out
";
        let expected = "
---- b stdout ----
thread 'b' panicked at src/b.rs:1:2:
no

---- c stdout ----
thread 'c' panicked at src/c.rs:1:2:
neither
";
        assert_eq!(read(output), expected);
    }

    #[test]
    fn each_program_is_read_afresh() {
        let output = "failures:\n\n---- a stdout ----\nlost\n\nfailures:\n    a\n\ntest result: FAILED. 0 passed\n\
            failures:\n\n---- b stdout ----\nno\n\nfailures:\n    b\n";
        assert_eq!(
            read(output),
            "\n---- a stdout ----\nlost\n\n---- b stdout ----\nno\n"
        );
    }

    #[test]
    fn of_a_long_report_the_end_is_kept() {
        let lines: String = (0..LINES_OF_A_TEST + 5)
            .map(|n| format!("line {n}\n"))
            .collect();
        let text = read(&format!(
            "failures:\n\n---- a stdout ----\n{lines}\nfailures:\n"
        ));
        assert!(
            text.starts_with("\n---- a stdout ----\n[5 lines above]\nline 5\n"),
            "{text}"
        );
        assert!(
            text.ends_with(&format!("line {}\n", LINES_OF_A_TEST + 4)),
            "{text}"
        );
    }

    #[test]
    fn a_run_without_failures_leaves_nothing() {
        assert_eq!(read("running 0 tests\n\ntest result: ok. 0 passed\n"), "");
    }
}
