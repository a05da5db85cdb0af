//! One step of an explanation.

use jiff::Timestamp;

use crate::output::ago;

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

/// When something became so, as exactly as that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Then.
    At(Timestamp),
    /// Then at the latest: something that follows from it is recorded.
    By(Timestamp),
    /// Then at the earliest: something that it follows from is recorded.
    NotBefore(Timestamp),
}

impl Moment {
    /// For a table: its age, with `>` if it may be older and `<` if it may be younger.
    pub(super) fn age(self, now: Timestamp) -> String {
        match self {
            Self::At(at) => ago(at, now),
            Self::By(at) => format!(">{}", ago(at, now)),
            Self::NotBefore(at) => format!("<{}", ago(at, now)),
        }
    }

    /// For a document: the name of its member, and the time.
    pub(super) fn member(self) -> (&'static str, Timestamp) {
        match self {
            Self::At(at) => ("since", at),
            Self::By(at) => ("by", at),
            Self::NotBefore(at) => ("notBefore", at),
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
    /// Since when it is so, if anything records that.
    pub(super) moment: Option<Moment>,
    /// Why, in one CamelCase word.
    pub(super) reason: String,
    /// What is so.
    pub(super) text: String,
    /// What to do about it; empty if nothing.
    pub(super) advice: String,
}

impl Step {
    fn new(name: &'static str, mark: Mark, reason: &str, text: impl Into<String>) -> Self {
        Self {
            name,
            target: String::new(),
            mark,
            moment: None,
            reason: reason.to_owned(),
            text: text.into(),
            advice: String::new(),
        }
    }

    pub(super) fn done(name: &'static str, reason: &str, text: impl Into<String>) -> Self {
        Self::new(name, Mark::Done, reason, text)
    }

    pub(super) fn waiting(name: &'static str, reason: &str, text: impl Into<String>) -> Self {
        Self::new(name, Mark::Waiting, reason, text)
    }

    pub(super) fn failed(name: &'static str, reason: &str, text: impl Into<String>) -> Self {
        Self::new(name, Mark::Failed, reason, text)
    }

    pub(super) fn skipped(name: &'static str, reason: &str, text: impl Into<String>) -> Self {
        Self::new(name, Mark::Skipped, reason, text)
    }

    /// With the reason that an object gives, if it gives one.
    pub(super) fn because(mut self, reason: &str) -> Self {
        if !reason.is_empty() {
            reason.clone_into(&mut self.reason);
        }
        self
    }

    /// So since this time, if it is known.
    pub(super) fn since(self, at: Option<Timestamp>) -> Self {
        self.when(at.map(Moment::At))
    }

    /// So since this time or an earlier one, if it is known.
    pub(super) fn by(self, at: Option<Timestamp>) -> Self {
        self.when(at.map(Moment::By))
    }

    /// So since this time or a later one, if it is known.
    pub(super) fn not_before(self, at: Option<Timestamp>) -> Self {
        self.when(at.map(Moment::NotBefore))
    }

    fn when(mut self, moment: Option<Moment>) -> Self {
        self.moment = moment.or(self.moment);
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
