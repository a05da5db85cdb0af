//! One step of an explanation.

use jiff::Timestamp;

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// As it should be.
    Done,
    /// On its way.
    Waiting,
    /// Not as it should be.
    Failed,
    /// Not needed, or not to be seen.
    Skipped,
}

impl Mark {
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Done => "✓",
            Self::Waiting => "…",
            Self::Failed => "✗",
            Self::Skipped => "–",
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Done => "Done",
            Self::Waiting => "Waiting",
            Self::Failed => "Failed",
            Self::Skipped => "Skipped",
        }
    }
}

/// One link of the chain from object to status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Its name: `placement`, `target`, …
    pub(super) name: &'static str,
    /// The SyncTarget that it is about, if about one.
    pub(super) target: String,
    pub(super) mark: Mark,
    /// Since when it is so, if that is recorded.
    pub(super) since: Option<Timestamp>,
    /// A reason in CamelCase, if there is one.
    pub(super) reason: String,
    /// What is so.
    pub(super) text: String,
    /// What to do about it; empty if nothing.
    pub(super) advice: String,
}

impl Step {
    pub(super) fn new(name: &'static str, mark: Mark, text: impl Into<String>) -> Self {
        Self {
            name,
            target: String::new(),
            mark,
            since: None,
            reason: String::new(),
            text: text.into(),
            advice: String::new(),
        }
    }

    pub(super) fn done(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, Mark::Done, text)
    }

    pub(super) fn waiting(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, Mark::Waiting, text)
    }

    pub(super) fn failed(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, Mark::Failed, text)
    }

    pub(super) fn skipped(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, Mark::Skipped, text)
    }

    pub(super) fn because(mut self, reason: &str) -> Self {
        reason.clone_into(&mut self.reason);
        self
    }

    pub(super) fn since(mut self, at: Option<Timestamp>) -> Self {
        self.since = at;
        self
    }

    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    pub(super) fn of(mut self, target: &str) -> Self {
        target.clone_into(&mut self.target);
        self
    }
}
