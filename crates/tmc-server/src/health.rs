//! `/livez`, `/readyz` and `/healthz`, the only paths without authentication.

use std::fmt::Write;
use std::sync::Arc;

use http::{Method, StatusCode};
use tmc_apimachinery::status::{ApiError, Result};

use crate::respond::text_response;
use crate::surface::{ApiSurface, Response};

/// Answers an exempt path. `/livez` says that the process answers; `/readyz` (and `/healthz`) ask
/// every surface, or the one named below them. `?verbose` lists the checks.
///
/// # Errors
/// 405 for anything but GET and HEAD, 404 for a check that does not exist.
pub(crate) fn answer(
    method: &Method,
    path: &str,
    query: &str,
    surfaces: &[Arc<dyn ApiSurface>],
) -> Result<Response> {
    if method != Method::GET && method != Method::HEAD {
        return Err(ApiError::method_not_allowed(
            "health checks are read with GET",
        ));
    }
    let mut parts = path.trim_matches('/').splitn(2, '/');
    let (what, check) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let mut checks = vec![("ping", Ok(()))];
    if what != "livez" {
        checks.extend(
            surfaces
                .iter()
                .map(|surface| (surface.name(), surface.ready())),
        );
    }
    if !check.is_empty() {
        checks.retain(|(name, _)| *name == check);
        if checks.is_empty() {
            return Err(ApiError::no_such_path());
        }
    }
    Ok(report(
        what,
        &checks,
        query.split('&').any(|part| part.starts_with("verbose")),
    ))
}

fn report(
    what: &str,
    checks: &[(&str, std::result::Result<(), String>)],
    verbose: bool,
) -> Response {
    let failed = checks.iter().any(|(_, outcome)| outcome.is_err());
    if !failed && !verbose {
        return text_response(StatusCode::OK, "ok");
    }
    let mut text = String::new();
    for (name, outcome) in checks {
        // Writing to a String cannot fail.
        let _ = match outcome {
            Ok(()) => writeln!(text, "[+]{name} ok"),
            Err(why) => writeln!(text, "[-]{name} failed: {why}"),
        };
    }
    let _ = writeln!(
        text,
        "{what} check {}",
        if failed { "failed" } else { "passed" }
    );
    let status = if failed {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::OK
    };
    text_response(status, text)
}
