//! Jobs and CronJobs.

use serde_json::Value;
use tmc_apimachinery::meta::meta;

use super::checks::{
    items, items_mut, list, non_negative, one_of, present, put, same, selector, text,
};
use super::pod;
use crate::report::{Field, Report};

/// A CronJob appends 11 characters to make the name of a Job, which has at most 63.
const MAX_CRON_JOB_NAME: usize = 52;

pub(super) fn batch(kind: &str, object: &Value, old: Option<&Value>, report: &mut Report) {
    match kind {
        "Job" => job(object, old, report),
        "CronJob" => cron_job(object, old, report),
        _ => {}
    }
}

fn job(object: &Value, old: Option<&Value>, report: &mut Report) {
    let (spec, field) = (&object["spec"], Field::new("spec"));
    job_spec(spec, &field, report);
    let indexed = text(spec, "completionMode") == "Indexed";
    let completions = spec.get("completions").and_then(Value::as_i64);
    if let Some(count) = completions
        && indexed
        && count > 0
        && old.is_none()
    {
        let name = meta(object).name();
        let host = format!("{name}-{}", count - 1);
        if host.len() > 63 || host.contains('.') {
            let why = format!("will not able to create pod with invalid DNS label: {host}");
            report.invalid(&Field::new("metadata").child("name"), name, why);
        }
    }
    let Some(old) = old.map(|old| &old["spec"]) else {
        return;
    };
    if !indexed && completions != old.get("completions").and_then(Value::as_i64) {
        report.invalid(
            &field.child("completions"),
            completions,
            "field is immutable",
        );
    }
    template_update(spec, old, &field, report);
}

/// The template of a Job is fixed once it runs; a suspended one may get other places to run on and
/// other resources.
fn template_update(spec: &Value, old: &Value, field: &Field, report: &mut Report) {
    let suspended = old.get("suspend") == Some(&Value::Bool(true));
    let fixed = |spec: &Value| {
        let mut template = spec["template"].clone();
        if suspended {
            put(&mut template, "metadata", Value::Null);
            let Some(spec) = template.get_mut("spec") else {
                return template;
            };
            for key in ["nodeSelector", "tolerations", "affinity", "schedulingGates"] {
                put(spec, key, Value::Null);
            }
            for list in ["containers", "initContainers"] {
                items_mut(spec, list).for_each(|c| put(c, "resources", Value::Null));
            }
        }
        template
    };
    if !same(&fixed(spec), &fixed(old)) {
        report.invalid(
            &field.child("template"),
            spec["template"].clone(),
            "field is immutable",
        );
    }
}

fn job_spec(spec: &Value, field: &Field, report: &mut Report) {
    let counts = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    non_negative(spec, &counts, field, report);
    selector(spec, "selector", field, report);
    one_of(
        spec,
        "completionMode",
        &["NonIndexed", "Indexed"],
        field,
        report,
    );
    one_of(
        spec,
        "podReplacementPolicy",
        &["Failed", "TerminatingOrFailed"],
        field,
        report,
    );
    if text(spec, "completionMode") == "Indexed" {
        if present(spec, "completions").is_none() {
            report.required(
                &field.child("completions"),
                "when completion mode is Indexed",
            );
        }
    } else {
        for key in ["backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"] {
            if let Some(value) = present(spec, key) {
                report.invalid(
                    &field.child(key),
                    value.clone(),
                    "requires indexed completion mode",
                );
            }
        }
    }
    if present(spec, "maxFailedIndexes").is_some()
        && present(spec, "backoffLimitPerIndex").is_none()
    {
        let at = field.child("backoffLimitPerIndex");
        report.required(&at, "when maxFailedIndexes is specified");
    }
    pod::template(&spec["template"], &field.child("template"), report);
    restart_policy(spec, field, report);
    failure_policy(spec, field, report);
}

fn restart_policy(spec: &Value, field: &Field, report: &mut Report) {
    let at = field.child("template").child("spec").child("restartPolicy");
    match text(&spec["template"]["spec"], "restartPolicy") {
        "" | "Always" => report.required(&at, "valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        "OnFailure" if present(spec, "podFailurePolicy").is_some() => {
            let why = "only \"Never\" is supported when podFailurePolicy is specified";
            report.invalid(&at, "OnFailure", why);
        }
        "OnFailure" => {}
        other => report.not_supported(&at, other, &["OnFailure", "Never"]),
    }
}

fn failure_policy(spec: &Value, field: &Field, report: &mut Report) {
    let Some(policy) = present(spec, "podFailurePolicy") else {
        return;
    };
    for (rule, at) in items(policy, "rules", &field.child("podFailurePolicy")) {
        if text(rule, "action").is_empty() {
            report.required(
                &at.child("action"),
                "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
            );
        }
        one_of(
            rule,
            "action",
            &["Count", "FailIndex", "FailJob", "Ignore"],
            &at,
            report,
        );
        let codes = present(rule, "onExitCodes").is_some();
        let conditions = !list(rule, "onPodConditions").is_empty();
        if codes && conditions {
            report.invalid_whole(
                &at,
                "specifying both OnExitCodes and OnPodConditions is not supported",
            );
        }
        if !codes && !conditions {
            report.invalid_whole(
                &at,
                "specifying one of OnExitCodes and OnPodConditions is required",
            );
        }
    }
}

fn cron_job(object: &Value, old: Option<&Value>, report: &mut Report) {
    let (spec, field) = (&object["spec"], Field::new("spec"));
    let name = meta(object).name();
    if old.is_none() && name.len() > MAX_CRON_JOB_NAME {
        let at = Field::new("metadata").child("name");
        report.invalid(&at, name, "must be no more than 52 characters");
    }
    let schedule = text(spec, "schedule");
    let zoned_before = old.is_some_and(|old| text(&old["spec"], "schedule").contains("TZ"));
    if schedule.is_empty() {
        report.required(&field.child("schedule"), "");
    } else {
        if let Err(why) = check_schedule(schedule) {
            report.invalid(&field.child("schedule"), schedule, why);
        }
        if schedule.contains("TZ") && !zoned_before {
            let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            report.invalid(&field.child("schedule"), schedule, why);
        }
    }
    if let Some(zone) = spec.get("timeZone").and_then(Value::as_str) {
        time_zone(zone, &field.child("timeZone"), report);
    }
    one_of(
        spec,
        "concurrencyPolicy",
        &["Allow", "Forbid", "Replace"],
        &field,
        report,
    );
    let counts = [
        "startingDeadlineSeconds",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
    ];
    non_negative(spec, &counts, &field, report);
    let at = field.child("jobTemplate").child("spec");
    job_spec(&spec["jobTemplate"]["spec"], &at, report);
}

fn time_zone(zone: &str, field: &Field, report: &mut Report) {
    let known = |part: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+');
        !matches!(part, "" | "." | "..") && !part.starts_with('-') && part.bytes().all(allowed)
    };
    if zone.is_empty() {
        report.invalid(field, zone, "timeZone must be nil or non-empty string");
    } else if zone.eq_ignore_ascii_case("Local") {
        let why =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        report.invalid(field, zone, why);
    } else if !zone.split('/').all(known) {
        report.invalid(field, zone, format!("unknown time zone {zone}"));
    }
}

/// A field of a schedule: least and greatest value, and names that stand for values from the least
/// on.
struct Part {
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &[
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const PARTS: [Part; 5] = [
    Part {
        least: 0,
        most: 59,
        names: &[],
    },
    Part {
        least: 0,
        most: 23,
        names: &[],
    },
    Part {
        least: 1,
        most: 31,
        names: &[],
    },
    Part {
        least: 1,
        most: 12,
        names: MONTHS,
    },
    Part {
        least: 0,
        most: 6,
        names: DAYS,
    },
];

/// The standard format: five fields, or a descriptor (`@daily`, `@every 1h`).
fn check_schedule(schedule: &str) -> Result<(), String> {
    let mut schedule = schedule;
    for prefix in ["TZ=", "CRON_TZ="] {
        if let Some(rest) = schedule.strip_prefix(prefix) {
            schedule = rest.split_once(' ').map_or("", |(_, rest)| rest).trim();
        }
    }
    if schedule.starts_with('@') {
        return check_descriptor(schedule);
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != PARTS.len() {
        let found = fields.join(" ");
        return Err(format!(
            "expected exactly 5 fields, found {}: [{found}]",
            fields.len()
        ));
    }
    fields
        .iter()
        .zip(&PARTS)
        .try_for_each(|(field, part)| check_field(field, part))
}

fn check_descriptor(text: &str) -> Result<(), String> {
    const KNOWN: [&str; 7] = [
        "@yearly",
        "@annually",
        "@monthly",
        "@weekly",
        "@daily",
        "@midnight",
        "@hourly",
    ];
    if let Some(duration) = text.strip_prefix("@every ") {
        let digits = duration.bytes().any(|b| b.is_ascii_digit());
        let unit = duration.ends_with(['s', 'm', 'h']);
        let fits = duration
            .chars()
            .all(|c| c.is_ascii_digit() || ".+-hmsnuµ".contains(c));
        return if digits && unit && fits {
            Ok(())
        } else {
            Err(format!(
                "failed to parse duration {text}: time: invalid duration {duration:?}"
            ))
        };
    }
    if KNOWN.contains(&text) {
        Ok(())
    } else {
        Err(format!("unrecognized descriptor: {text}"))
    }
}

fn check_field(field: &str, part: &Part) -> Result<(), String> {
    field
        .split(',')
        .filter(|range| !range.is_empty())
        .try_for_each(|range| check_range(range, part))
}

fn check_range(range: &str, part: &Part) -> Result<(), String> {
    let mut halves = range.split('/');
    let (span, step) = (halves.next().unwrap_or(""), halves.next());
    if halves.next().is_some() {
        return Err(format!("too many slashes: {range}"));
    }
    let mut ends = span.split('-');
    let (first, last) = (ends.next().unwrap_or(""), ends.next());
    if ends.next().is_some() {
        return Err(format!("too many hyphens: {range}"));
    }
    let (start, end) = match first {
        "*" | "?" => (part.least, part.most),
        first => {
            let start = number_or_name(first, part)?;
            match last {
                Some(last) => (start, number_or_name(last, part)?),
                None if step.is_some() => (start, part.most),
                None => (start, start),
            }
        }
    };
    if let Some(step) = step
        && number(step)? == 0
    {
        return Err(format!(
            "step of range should be a positive number: {range}"
        ));
    }
    if start < part.least {
        return Err(format!(
            "beginning of range ({start}) below minimum ({}): {range}",
            part.least
        ));
    }
    if end > part.most {
        return Err(format!(
            "end of range ({end}) above maximum ({}): {range}",
            part.most
        ));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {range}"
        ));
    }
    Ok(())
}

fn number_or_name(text: &str, part: &Part) -> Result<u32, String> {
    let lower = text.to_lowercase();
    match part.names.iter().position(|name| *name == lower) {
        Some(at) => Ok(part.least + u32::try_from(at).unwrap_or(u32::MAX)),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
    })
}
