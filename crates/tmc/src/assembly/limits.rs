//! What the operating system allows this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets this process have as many files open as it may: each agent of a fleet has two connections,
/// and the usual limit of 1,024 is a courtesy to programs that use `select`, which this is not.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Some(raised) = raised(&limit)
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, ?limit, "the limit of open files stays as it is");
    }
}

/// The limit with all that is allowed; `None` if it is that already.
fn raised(limit: &Rlimit) -> Option<Rlimit> {
    (limit.current != limit.maximum).then_some(Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_raised_to_what_is_allowed_and_no_further() {
        let limit = |current, maximum| Rlimit { current, maximum };
        assert_eq!(
            raised(&limit(Some(1024), Some(4096))),
            Some(limit(Some(4096), Some(4096)))
        );
        assert_eq!(raised(&limit(Some(1024), None)), Some(limit(None, None)));
        assert_eq!(raised(&limit(Some(4096), Some(4096))), None);
    }

    #[test]
    fn afterwards_nothing_is_left_to_raise() {
        raise_open_files();
        assert_eq!(raised(&getrlimit(Resource::Nofile)), None);
    }
}
