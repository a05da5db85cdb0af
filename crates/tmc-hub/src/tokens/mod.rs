//! Bound tokens of ServiceAccounts: made by a TokenRequest, believed by the server and by
//! TokenReview.
//!
//! A token is a JWT as Kubernetes makes them, with one claim more: the logical cluster whose
//! ServiceAccount it speaks for. It is good while its signature, issuer, audience and times are, and
//! while the account and the object it is bound to exist with the uids that it names and are not being
//! deleted. Nothing is remembered of a token that was handed out: what it depends on is read at each use.

mod agents;
mod authenticate;
mod claims;
mod keys;
mod request;
mod ring;

pub(crate) use authenticate::ServiceAccountTokens;
pub use keys::KeyVault;
pub(crate) use keys::Keys;
pub(crate) use request::is_token_request;

use crate::storage::Layout;

/// Who issues tokens of a hub, and the audience of tokens that name none. Not the hub's URL: tokens
/// stay good when a hub moves. Hubs are told apart by their keys.
pub(crate) fn issuer(layout: Layout) -> &'static str {
    match layout {
        Layout::Workspaces => "https://tmc.default.svc",
        Layout::Plain => "https://kubernetes.default.svc.cluster.local",
    }
}
