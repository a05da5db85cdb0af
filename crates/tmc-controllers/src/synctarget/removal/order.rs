//! What comes next on the way out of a target.

/// The copies that a target still has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// Not everything is known yet.
    Unknown,
    /// So many objects have a mark of it.
    Some(usize),
    /// None.
    None,
}

/// What decides on the next step.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Its copies.
    pub copies: Copies,
    /// Nobody waits for the agent (`force` or `keepWorkloads`).
    pub abandon: bool,
    /// It is already stopped and its marks are nobody's.
    pub abandoned: bool,
    /// What the hub made for the agent is being removed.
    pub clearing: bool,
    /// What the hub made for the agent is gone, or recorded as left behind.
    pub cleared: bool,
}

/// The next step of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait until it is known what is there.
    Learn,
    /// Stop the agent, then let go of its marks.
    Abandon,
    /// Wait until the marks are gone.
    AwaitCopies(usize),
    /// Ask the hub whether there is no mark either that is not in the cache yet.
    Confirm,
    /// Remove what the hub made for the agent.
    Clear,
    /// Let the SyncTarget go.
    Finish,
}

/// Decides on the next step.
pub fn next(facts: &Facts) -> Next {
    if facts.abandon && !facts.abandoned {
        return Next::Abandon;
    }
    match facts.copies {
        Copies::Unknown => Next::Learn,
        Copies::Some(count) => Next::AwaitCopies(count),
        Copies::None if !facts.clearing => Next::Confirm,
        Copies::None if facts.cleared => Next::Finish,
        Copies::None => Next::Clear,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::copies(Copies::Some(3), &[], Next::AwaitCopies(3))]
    #[case::not_known(Copies::Unknown, &[], Next::Learn)]
    #[case::no_copies(Copies::None, &[], Next::Confirm)]
    #[case::confirmed(Copies::None, &["clearing"], Next::Clear)]
    #[case::a_mark_came_late(Copies::Some(1), &["clearing"], Next::AwaitCopies(1))]
    #[case::cleared(Copies::None, &["clearing", "cleared"], Next::Finish)]
    #[case::cleared_but_a_mark_came(Copies::Some(1), &["clearing", "cleared"], Next::AwaitCopies(1))]
    #[case::forced(Copies::Some(3), &["abandon"], Next::Abandon)]
    #[case::forced_without_knowing(Copies::Unknown, &["abandon"], Next::Abandon)]
    #[case::forced_while_clearing(Copies::None, &["abandon", "clearing"], Next::Abandon)]
    #[case::abandoned(Copies::Some(3), &["abandon", "abandoned"], Next::AwaitCopies(3))]
    #[case::abandoned_and_clean(Copies::None, &["abandon", "abandoned"], Next::Confirm)]
    #[case::abandoned_and_cleared(
        Copies::None,
        &["abandon", "abandoned", "clearing", "cleared"],
        Next::Finish
    )]
    fn a_removal_has_an_order(
        #[case] copies: Copies,
        #[case] so_far: &[&str],
        #[case] expected: Next,
    ) {
        let facts = Facts {
            copies,
            abandon: so_far.contains(&"abandon"),
            abandoned: so_far.contains(&"abandoned"),
            clearing: so_far.contains(&"clearing"),
            cleared: so_far.contains(&"cleared"),
        };
        assert_eq!(next(&facts), expected);
    }

    #[test]
    fn the_finalizer_never_goes_while_a_mark_is_known_or_possible() {
        for copies in [Copies::Unknown, Copies::Some(1)] {
            for bits in 0..16 {
                let facts = Facts {
                    copies,
                    abandon: bits & 1 != 0,
                    abandoned: bits & 2 != 0,
                    clearing: bits & 4 != 0,
                    cleared: bits & 8 != 0,
                };
                assert_ne!(next(&facts), Next::Finish);
            }
        }
    }
}
