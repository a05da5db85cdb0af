//! The end of `cargo xtask test`: what ran, what was skipped and why, and the
//! command that would run it. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What a skipped test lacked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Component {
    /// The real programs that `cargo xtask testbin` builds.
    Real,
    /// A running kcp, which is given or not, also in CI.
    Kcp,
    /// A document that does not exist.
    Document,
    /// Anything else that a test names.
    Other(String),
}

impl Component {
    fn named(name: &str) -> Self {
        match name {
            "real" => Self::Real,
            "kcp" => Self::Kcp,
            other => Self::Other(other.to_owned()),
        }
    }

    fn title(&self) -> String {
        match self {
            Self::Real => "the real programs (etcd, kube-apiserver, kubectl, …)".to_owned(),
            Self::Kcp => "a running kcp".to_owned(),
            Self::Document => "the document itself".to_owned(),
            Self::Other(name) => name.clone(),
        }
    }

    fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Real => Some("with Go 1.26 or newer on the PATH: cargo xtask test"),
            Self::Kcp => Some("TMC_TEST_KCP_KUBECONFIG=FILE cargo xtask test"),
            Self::Document | Self::Other(_) => None,
        }
    }

    /// Whether its absence is a failure with `CI=true`.
    fn is_required(&self) -> bool {
        *self != Self::Kcp
    }
}

/// One thing that was not run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Skip {
    /// What it lacked.
    pub(crate) component: Component,
    /// Its name, as a developer would look for it.
    pub(crate) what: String,
}

/// The skips that tests have recorded: lines of `component<TAB>name`.
pub(crate) fn recorded(lines: &str) -> Vec<Skip> {
    let mut skips: Vec<Skip> = lines
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let (component, what) = line
                .split_once('\t')
                .unwrap_or(("a component it did not name", line));
            Skip {
                component: Component::named(component.trim()),
                what: what.trim().to_owned(),
            }
        })
        .collect();
    skips.sort();
    skips.dedup();
    skips
}

/// What a run has come to.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// Steps that ran, and whether they passed.
    pub(crate) steps: Vec<(String, bool)>,
    /// What the failed tests said.
    pub(crate) failures: String,
    /// What did not run.
    pub(crate) skips: Vec<Skip>,
    /// Why the real programs are missing, if they are.
    pub(crate) real_missing: Option<String>,
    /// Whether a missing component is a failure.
    pub(crate) ci: bool,
}

impl Summary {
    /// Whether the run as a whole passed.
    pub(crate) fn passed(&self) -> bool {
        self.steps.iter().all(|(_, passed)| *passed) && !self.lacks_required()
    }

    fn lacks_required(&self) -> bool {
        self.ci
            && (self.real_missing.is_some()
                || self.skips.iter().any(|skip| skip.component.is_required()))
    }

    /// The summary as it is printed.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if !self.failures.is_empty() {
            let _ = write!(text, "\nthe failed tests once more\n{}", self.failures);
        }
        text.push_str("\nsummary\n");
        for (step, passed) in &self.steps {
            let _ = writeln!(
                text,
                "  {}  {step}",
                if *passed { "passed" } else { "FAILED" }
            );
        }
        let mut missing: BTreeMap<&Component, Vec<&str>> = BTreeMap::new();
        if self.real_missing.is_some() {
            missing.entry(&Component::Real).or_default();
        }
        for skip in &self.skips {
            missing.entry(&skip.component).or_default().push(&skip.what);
        }
        for (component, skipped) in missing {
            let title = component.title();
            let _ = match skipped.len() {
                // Missing, and nothing has said that it was skipped for that.
                0 => write!(text, "  missing: {title}"),
                count => write!(text, "  {count} skipped for want of {title}"),
            };
            if let (Component::Real, Some(reason)) = (component, &self.real_missing) {
                let _ = write!(text, ": {reason}");
            }
            text.push('\n');
            for what in skipped {
                let _ = writeln!(text, "    - {what}");
            }
            if let Some(remedy) = component.remedy() {
                let _ = writeln!(text, "    to run them: {remedy}");
            }
        }
        if self.lacks_required() {
            text.push_str("  with CI=true a missing component is a failure\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(component: Component, what: &str) -> Skip {
        Skip {
            component,
            what: what.to_owned(),
        }
    }

    fn step(name: &str, passed: bool) -> (String, bool) {
        (name.to_owned(), passed)
    }

    #[test]
    fn recorded_skips_are_sorted_and_counted_once() {
        assert_eq!(
            recorded("kcp\tb\nreal\tz\n\nreal\ta\nreal\ta\n"),
            [
                skip(Component::Real, "a"),
                skip(Component::Real, "z"),
                skip(Component::Kcp, "b")
            ]
        );
    }

    #[test]
    fn a_run_without_skips_lists_its_steps_only() {
        let summary = Summary {
            steps: vec![step("tests", true), step("README.md", false)],
            ..Summary::default()
        };
        assert_eq!(
            summary.text(),
            "\nsummary\n  passed  tests\n  FAILED  README.md\n"
        );
        assert!(!summary.passed());
    }

    #[test]
    fn what_failed_tests_said_comes_right_before_the_steps() {
        let summary = Summary {
            steps: vec![step("cargo test", false)],
            failures: "\n---- a stdout ----\nno\n".to_owned(),
            ..Summary::default()
        };
        assert_eq!(
            summary.text(),
            "\nthe failed tests once more\n\n---- a stdout ----\nno\n\nsummary\n  FAILED  cargo test\n"
        );
    }

    #[test]
    fn skips_are_counted_and_named_with_their_remedy() {
        let summary = Summary {
            steps: vec![step("tests", true)],
            skips: vec![
                skip(Component::Real, "a"),
                skip(Component::Real, "b"),
                skip(Component::Kcp, "c"),
            ],
            real_missing: Some("Go is not installed".to_owned()),
            ..Summary::default()
        };
        let text = summary.text();
        assert!(text.contains("2 skipped for want of the real programs (etcd, kube-apiserver, kubectl, …): Go is not installed\n    - a\n    - b\n    to run them: with Go"), "{text}");
        assert!(text.contains("1 skipped for want of a running kcp\n    - c\n    to run them: TMC_TEST_KCP_KUBECONFIG=FILE"), "{text}");
        assert!(summary.passed());
    }

    #[test]
    fn in_ci_a_missing_component_is_a_failure_even_if_no_test_recorded_it() {
        let summary = Summary {
            real_missing: Some("no Go".to_owned()),
            ci: true,
            ..Summary::default()
        };
        assert!(!summary.passed());
        assert!(summary.text().contains("a missing component is a failure"));
    }

    #[test]
    fn in_ci_a_kcp_that_is_not_given_is_no_failure() {
        let summary = Summary {
            skips: vec![skip(Component::Kcp, "c")],
            ci: true,
            ..Summary::default()
        };
        assert!(summary.passed());
    }

    #[test]
    fn in_ci_a_missing_document_or_an_unknown_component_is_a_failure() {
        for component in [Component::Document, Component::named("docker")] {
            let summary = Summary {
                skips: vec![skip(component, "c")],
                ci: true,
                ..Summary::default()
            };
            assert!(!summary.passed());
        }
    }
}
