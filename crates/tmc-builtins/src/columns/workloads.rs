//! Columns of workload controllers, autoscalers and disruption budgets.

use serde_json::Value;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::table::human_duration;

use super::cells::{
    condition_is_true, first_of, joined, labels, list, number, quantity, seconds, selector_at,
    since, text, text_or,
};
use super::{AGE, CONTAINERS, IMAGES, SELECTOR, Spec, column, integer, string, wide};

const DESIRED: Spec = integer("Desired", "Number of desired pods.", |o, _| {
    number(o, "/spec/replicas").into()
});
const CURRENT: Spec = integer("Current", "Number of pods that exist.", |o, _| {
    number(o, "/status/replicas").into()
});
const READY: Spec = integer("Ready", "Number of ready pods.", |o, _| {
    number(o, "/status/readyReplicas").into()
});
const READY_OF: Spec = string("Ready", "Number of the pod with ready state", |o, _| {
    format!(
        "{}/{}",
        number(o, "/status/readyReplicas"),
        number(o, "/spec/replicas")
    )
    .into()
});

pub(super) const DEPLOYMENT: &[Spec] = &[
    READY_OF,
    string(
        "Up-to-date",
        "Number of pods of the current template.",
        |o, _| number(o, "/status/updatedReplicas").into(),
    ),
    string("Available", "Number of available pods.", |o, _| {
        number(o, "/status/availableReplicas").into()
    }),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) const REPLICA_SET: &[Spec] =
    &[DESIRED, CURRENT, READY, AGE, CONTAINERS, IMAGES, SELECTOR];

pub(super) const REPLICATION_CONTROLLER: &[Spec] = &[
    DESIRED,
    CURRENT,
    READY,
    AGE,
    CONTAINERS,
    IMAGES,
    wide("Selector", "Labels of the pods counted.", |o, _| {
        labels(o, "/spec/selector").into()
    }),
];

pub(super) const STATEFUL_SET: &[Spec] = &[READY_OF, AGE, CONTAINERS, IMAGES];

pub(super) const DAEMON_SET: &[Spec] = &[
    integer(
        "Desired",
        "Number of nodes that should run the pod.",
        |o, _| number(o, "/status/desiredNumberScheduled").into(),
    ),
    integer(
        "Current",
        "Number of nodes that run the pod and should.",
        |o, _| number(o, "/status/currentNumberScheduled").into(),
    ),
    integer("Ready", "Number of nodes with a ready pod.", |o, _| {
        number(o, "/status/numberReady").into()
    }),
    integer(
        "Up-to-date",
        "Number of nodes with a pod of the current template.",
        |o, _| number(o, "/status/updatedNumberScheduled").into(),
    ),
    integer(
        "Available",
        "Number of nodes with an available pod.",
        |o, _| number(o, "/status/numberAvailable").into(),
    ),
    string(
        "Node Selector",
        "Labels of the nodes that should run the pod.",
        |o, _| labels(o, "/spec/template/spec/nodeSelector").into(),
    ),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) const CONTROLLER_REVISION: &[Spec] = &[
    string("Controller", "Controller of the object", |o, _| {
        controller(o).into()
    }),
    string("Revision", "Revision of the state held.", |o, _| {
        number(o, "/revision").into()
    }),
    AGE,
];

fn controller(object: &Value) -> String {
    let Some(owner) = meta(object).controller() else {
        return "<none>".to_owned();
    };
    let group = text(owner, "/apiVersion")
        .split_once('/')
        .map_or("", |(group, _)| group);
    let dot = if group.is_empty() { "" } else { "." };
    let kind = format!("{}{dot}{group}", text(owner, "/kind")).to_lowercase();
    format!("{kind}/{}", text(owner, "/name"))
}

pub(super) const POD_TEMPLATE: &[Spec] = &[
    string(
        "Containers",
        "Names of each container in the template.",
        |o, _| joined(list(o, "/template/spec/containers"), "name").into(),
    ),
    string(
        "Images",
        "Images referenced by each container in the template.",
        |o, _| joined(list(o, "/template/spec/containers"), "image").into(),
    ),
    string("Pod Labels", "The labels for the pod template.", |o, _| {
        labels(o, "/template/metadata/labels").into()
    }),
];

pub(super) const JOB: &[Spec] = &[
    string("Status", "Status of the job.", |o, _| job_status(o).into()),
    string("Completions", "Number of pods that succeeded.", |o, _| {
        completions(o).into()
    }),
    string(
        "Duration",
        "Time required to complete the job.",
        |o, now| job_duration(o, now).into(),
    ),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn job_status(job: &Value) -> &'static str {
    let first = |candidates: &[(&str, &'static str)]| {
        let found = candidates
            .iter()
            .find(|(condition, _)| condition_is_true(job, condition));
        found.map(|(_, text)| *text)
    };
    if let Some(text) = first(&[("Complete", "Complete"), ("Failed", "Failed")]) {
        return text;
    }
    if meta(job).is_being_deleted() {
        return "Terminating";
    }
    first(&[
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ])
    .unwrap_or("Running")
}

fn completions(job: &Value) -> String {
    let succeeded = number(job, "/status/succeeded");
    if let Some(wanted) = job.pointer("/spec/completions").and_then(Value::as_i64) {
        return format!("{succeeded}/{wanted}");
    }
    match number(job, "/spec/parallelism") {
        parallel if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        _ => format!("{succeeded}/1"),
    }
}

fn job_duration(job: &Value, now: i64) -> String {
    let Some(start) = seconds(text(job, "/status/startTime")) else {
        return String::new();
    };
    let end = seconds(text(job, "/status/completionTime")).unwrap_or(now);
    human_duration(end.saturating_sub(start))
}

pub(super) const CRON_JOB: &[Spec] = &[
    string("Schedule", "The schedule in Cron format.", |o, _| {
        text(o, "/spec/schedule").into()
    }),
    string("Timezone", "The time zone of the schedule.", |o, _| {
        let zone = o.pointer("/spec/timeZone").and_then(Value::as_str);
        zone.unwrap_or("<none>").into()
    }),
    column(
        "Suspend",
        "boolean",
        "Whether further executions are suspended.",
        |o, _| match o.pointer("/spec/suspend") {
            Some(Value::Bool(true)) => "True".into(),
            Some(Value::Bool(false)) => "False".into(),
            _ => "<unset>".into(),
        },
    ),
    integer("Active", "Number of jobs that run now.", |o, _| {
        list(o, "/status/active").len().into()
    }),
    string(
        "Last Schedule",
        "Time since a job was last scheduled.",
        |o, now| match text(o, "/status/lastScheduleTime") {
            "" => "<none>".into(),
            time => since(time, now).into(),
        },
    ),
    AGE,
    wide("Containers", CONTAINERS.description, |o, _| {
        joined(
            list(o, "/spec/jobTemplate/spec/template/spec/containers"),
            "name",
        )
        .into()
    }),
    wide("Images", IMAGES.description, |o, _| {
        joined(
            list(o, "/spec/jobTemplate/spec/template/spec/containers"),
            "image",
        )
        .into()
    }),
    wide("Selector", SELECTOR.description, |o, _| {
        selector_at(o, "/spec/jobTemplate/spec/selector").into()
    }),
];

pub(super) const POD_DISRUPTION_BUDGET: &[Spec] = &[
    string(
        "Min Available",
        "The minimum number of pods that must be available.",
        |o, _| int_or_string(o, "/spec/minAvailable").into(),
    ),
    string(
        "Max Unavailable",
        "The maximum number of pods that may be unavailable.",
        |o, _| int_or_string(o, "/spec/maxUnavailable").into(),
    ),
    integer(
        "Allowed Disruptions",
        "Calculated number of pods that may be disrupted at this time.",
        |o, _| number(o, "/status/disruptionsAllowed").into(),
    ),
    AGE,
];

fn int_or_string(object: &Value, pointer: &str) -> String {
    match object.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => "N/A".to_owned(),
    }
}

pub(super) const HORIZONTAL_POD_AUTOSCALER: &[Spec] = &[
    string("Reference", "The object that is scaled.", |o, _| {
        let target = "/spec/scaleTargetRef";
        let part = |member| text(o, &format!("{target}/{member}")).to_owned();
        format!("{}/{}", part("kind"), part("name")).into()
    }),
    string(
        "Targets",
        "Current and target values of the metrics.",
        |o, _| metrics(o).into(),
    ),
    string("MinPods", "Lower limit of replicas.", |o, _| {
        match o.pointer("/spec/minReplicas").and_then(Value::as_i64) {
            Some(number) => number.to_string().into(),
            None => "<unset>".into(),
        }
    }),
    string("MaxPods", "Upper limit of replicas.", |o, _| {
        number(o, "/spec/maxReplicas").into()
    }),
    string("Replicas", "Current number of replicas.", |o, _| {
        number(o, "/status/currentReplicas").into()
    }),
    AGE,
];

fn metrics(autoscaler: &Value) -> String {
    let specs = list(autoscaler, "/spec/metrics");
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let statuses = list(autoscaler, "/status/currentMetrics");
    let null = Value::Null;
    let texts: Vec<String> = specs
        .iter()
        .enumerate()
        .map(|(index, spec)| metric(spec, statuses.get(index).unwrap_or(&null)))
        .collect();
    first_of(&texts, 2, ", ")
}

fn metric(spec: &Value, status: &Value) -> String {
    let source = match text(spec, "/type") {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let target = &spec[source]["target"];
    let now = &status[source]["current"];
    let current = |member: &str| match now.get(member) {
        None | Some(Value::Null) => "<unknown>".to_owned(),
        Some(_) => quantity(now, &format!("/{member}")),
    };
    let average = quantity(target, "/averageValue");
    let averaged = target.get("averageValue").is_some_and(|v| !v.is_null());
    let named = |text: String| format!("{}: {text}", text_or(&spec[source], "/name", ""));
    match source {
        "pods" => format!("{}/{average}", current("averageValue")),
        "external" | "object" if averaged => {
            format!("{}/{average} (avg)", current("averageValue"))
        }
        "external" | "object" => format!("{}/{}", current("value"), quantity(target, "/value")),
        _ if averaged => named(format!("{}/{average}", current("averageValue"))),
        _ => {
            let percent = |value: Option<&Value>, other: &str| {
                let number = value.and_then(Value::as_i64);
                number.map_or_else(|| other.to_owned(), |n| format!("{n}%"))
            };
            let current = percent(now.get("averageUtilization"), "<unknown>");
            named(format!(
                "{current}/{}",
                percent(target.get("averageUtilization"), "<auto>")
            ))
        }
    }
}
