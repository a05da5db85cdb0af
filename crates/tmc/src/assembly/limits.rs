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

/// Files that are left to everything but the connections of clients: the store, ways into members.
const RESERVED: u64 = 2_048;

/// The limits of a server, whose connections leave files to everything else.
pub(crate) fn server_config() -> tmc_server::Config {
    let mut config = tmc_server::Config::default();
    let files = getrlimit(Resource::Nofile).current;
    let most = &mut config.listener.max_connections;
    *most = files.map_or(*most, |files| connections(files, *most));
    config
}

/// How many connections there may be at once with so many files.
fn connections(files: u64, most: usize) -> usize {
    let left = files.saturating_sub(RESERVED).max(files / 2);
    usize::try_from(left).map_or(most, |left| left.min(most))
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
    fn connections_leave_files_to_everything_else() {
        let of = |files| connections(files, 50_000);
        assert_eq!((of(1_024), of(20_000), of(1 << 20)), (512, 17_952, 50_000));
    }

    #[test]
    fn afterwards_nothing_is_left_to_raise() {
        raise_open_files();
        assert_eq!(raised(&getrlimit(Resource::Nofile)), None);
    }
}
