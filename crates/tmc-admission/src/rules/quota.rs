//! QuotaSpec.

use serde_json::json;
use std::time::Duration;
use tmc_api::workload::{Burst, QuotaScope, QuotaSpec, ScopeOperator};
use tmc_apimachinery::meta;
use tmc_apimachinery::status::Cause;

use crate::fields::{self, Sign};

/// Longest time above `hard`; beyond it a higher limit is what is meant.
const MOST_BURST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Errors of one quota.
pub(super) fn quota(field: &str, quota: &QuotaSpec) -> Vec<Cause> {
    let (hard, soft) = (format!("{field}.hard"), format!("{field}.soft"));
    let mut causes = fields::resources(&hard, &quota.hard, Sign::NotNegative);
    causes.extend(fields::resources(&soft, &quota.soft, Sign::NotNegative));
    causes.extend(fields::not_above(
        &soft,
        &quota.soft,
        &quota.hard,
        "hard limit",
    ));
    for (i, scope) in quota.scopes.iter().enumerate() {
        causes.extend(scope_causes(&format!("{field}.scopes[{i}]"), scope));
    }
    for (resource, percent) in &quota.overcommit {
        let at = format!("{field}.overcommit[{resource}]");
        causes.extend(meta::validate_qualified_name(&at, resource));
        if !(100..=100_000).contains(percent) {
            causes.push(Cause::invalid(
                at,
                &json!(percent),
                "must be between 100 and 100000",
            ));
        }
    }
    if let Some(burst) = &quota.burst {
        causes.extend(burst_causes(&format!("{field}.burst"), burst));
    }
    causes
}

fn scope_causes(field: &str, scope: &QuotaScope) -> Vec<Cause> {
    let takes_values = matches!(scope.operator, ScopeOperator::In | ScopeOperator::NotIn);
    let at = format!("{field}.values");
    match (takes_values, scope.values.is_empty()) {
        (true, true) => {
            let why = format!("must be given with the operator \"{}\"", scope.operator);
            vec![Cause::required(at, &why)]
        }
        (false, false) => {
            let why = format!("may not be given with the operator \"{}\"", scope.operator);
            vec![Cause::forbidden(at, why)]
        }
        _ => Vec::new(),
    }
}

fn burst_causes(field: &str, burst: &Burst) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Some(percent) = burst.percent.filter(|p| !(100..=1000).contains(p)) {
        let at = format!("{field}.percent");
        causes.push(Cause::invalid(
            at,
            &json!(percent),
            "must be between 100 and 1000",
        ));
    }
    let at = format!("{field}.maxDuration");
    causes.extend(fields::span(
        &at,
        burst.max_duration,
        Duration::from_secs(1),
        MOST_BURST,
    ));
    for (i, class) in burst.priority_classes.iter().enumerate() {
        let at = format!("{field}.priorityClasses[{i}]");
        causes.extend(fields::dns_subdomain(&at, class));
    }
    causes
}
