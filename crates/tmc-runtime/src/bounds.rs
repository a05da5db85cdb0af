//! How much is read and kept of a server.

/// The longest answers that are read of a server; longer ones are an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// One answer, in bytes.
    pub answer: usize,
    /// One event of a watch, in bytes.
    pub event: usize,
}

impl Bounds {
    /// Of a hub, which is trusted to send only what it was asked for.
    pub const HUB: Self = Self {
        answer: 64 << 20,
        event: 16 << 20,
    };
    /// Of a member, which is not. The largest honest object is one of 1.5 MiB in etcd whose text is
    /// all `<`, which an API server writes with six bytes each: less would let a tenant make an object
    /// that the agent cannot read.
    pub const MEMBER: Self = Self {
        answer: 10 << 20,
        event: 10 << 20,
    };

    /// Those of the server that gave an answer; see [`crate::Connection::bounded`].
    pub(crate) fn of(extensions: &http::Extensions) -> Self {
        extensions.get().copied().unwrap_or(Self::HUB)
    }
}

/// The most that an informer keeps. Beyond it the list or watch fails, is logged, and is tried again
/// some minutes later; what is kept stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Objects.
    pub objects: usize,
    /// Their length in compact JSON, all together.
    pub bytes: usize,
}

impl Budget {
    /// Of one resource of a member: three times the objects, and more bytes of them, than the largest
    /// member that an API server's store could hold of our copies.
    pub const MEMBER: Self = Self {
        objects: 200_000,
        bytes: 512 << 20,
    };
}
