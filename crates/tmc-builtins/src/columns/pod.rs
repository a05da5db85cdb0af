//! The columns of Pods: the only ones that need some thought.

use serde_json::Value;
use tmc_apimachinery::meta::meta;

use super::cells::{condition_is_true, list, number, since, text, text_or};
use super::{AGE, Spec, string, wide};

pub(super) const POD: &[Spec] = &[
    string(
        "Ready",
        "The aggregate readiness state of this pod for accepting traffic.",
        |pod, _| Summary::of(pod).ready().into(),
    ),
    string(
        "Status",
        "The aggregate status of the containers in this pod.",
        |pod, _| Summary::of(pod).reason.into(),
    ),
    string(
        "Restarts",
        "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
        |pod, now| Summary::of(pod).restarts_text(now).into(),
    ),
    AGE,
    wide("IP", "IP address allocated to the pod.", |pod, _| {
        text_or(pod, "/status/podIPs/0/ip", "<none>").into()
    }),
    wide(
        "Node",
        "Name of the node in which the pod is scheduled.",
        |pod, _| text_or(pod, "/spec/nodeName", "<none>").into(),
    ),
    wide(
        "Nominated Node",
        "Node on which the pod may be scheduled after preemption.",
        |pod, _| text_or(pod, "/status/nominatedNodeName", "<none>").into(),
    ),
    wide(
        "Readiness Gates",
        "Readiness gates that are fulfilled.",
        |pod, _| readiness_gates(pod).into(),
    ),
];

fn readiness_gates(pod: &Value) -> String {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let fulfilled = gates
        .iter()
        .filter(|gate| condition_is_true(pod, gate["conditionType"].as_str().unwrap_or_default()));
    format!("{}/{}", fulfilled.count(), gates.len())
}

/// What the containers of a pod come to.
struct Summary {
    total: usize,
    ready: usize,
    restarts: i64,
    /// When a container last ended before it was restarted; compares as text, empty if never.
    last_restart: String,
    reason: String,
}

/// Where the init containers have come to.
struct Initialization {
    summary: Summary,
    /// Restarts of sidecars alone.
    sidecars: (i64, String),
    unfinished: bool,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let Initialization {
            mut summary,
            sidecars,
            unfinished,
        } = init_containers(pod);
        if !unfinished || condition_is_true(pod, "Initialized") {
            (summary.restarts, summary.last_restart) = sidecars;
            containers(pod, &mut summary);
        }
        let meta = meta(pod);
        let phase = text(pod, "/status/phase");
        if meta.is_being_deleted() && text(pod, "/status/reason") == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if meta.is_being_deleted() && !matches!(phase, "Succeeded" | "Failed") {
            summary.reason = "Terminating".to_owned();
        }
        summary
    }

    fn ready(&self) -> String {
        format!("{}/{}", self.ready, self.total)
    }

    fn restarts_text(&self, now: i64) -> String {
        if self.restarts == 0 || self.last_restart.is_empty() {
            return self.restarts.to_string();
        }
        format!("{} ({} ago)", self.restarts, since(&self.last_restart, now))
    }
}

/// Counts a container's restarts and when it last ended.
fn count_restarts(status: &Value, restarts: &mut i64, last: &mut String) {
    *restarts += number(status, "/restartCount");
    let ended = text(status, "/lastState/terminated/finishedAt");
    if last.as_str() < ended {
        ended.clone_into(last);
    }
}

fn is_sidecar(container: Option<&Value>) -> bool {
    container.is_some_and(|c| c["restartPolicy"] == "Always")
}

fn init_containers(pod: &Value) -> Initialization {
    let specs = list(pod, "/spec/initContainers");
    let sidecar_count = specs.iter().filter(|c| is_sidecar(Some(*c))).count();
    let mut summary = Summary {
        total: list(pod, "/spec/containers").len() + sidecar_count,
        ready: 0,
        restarts: 0,
        last_restart: String::new(),
        reason: phase_reason(pod),
    };
    let mut sidecars = (0, String::new());
    for (index, status) in list(pod, "/status/initContainerStatuses")
        .iter()
        .enumerate()
    {
        let sidecar = is_sidecar(specs.iter().find(|c| c["name"] == status["name"]));
        count_restarts(status, &mut summary.restarts, &mut summary.last_restart);
        if sidecar {
            count_restarts(status, &mut sidecars.0, &mut sidecars.1);
        }
        let terminated = status
            .pointer("/state/terminated")
            .filter(|t| t.is_object());
        if terminated.is_some_and(|t| number(t, "/exitCode") == 0) {
            continue;
        }
        if sidecar && status["started"] == true {
            summary.ready += usize::from(status["ready"] == true);
            continue;
        }
        let waiting = text(status, "/state/waiting/reason");
        summary.reason = match terminated {
            Some(terminated) => format!("Init:{}", terminated_reason(terminated)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => {
                format!("Init:{waiting}")
            }
            None => format!("Init:{index}/{}", specs.len()),
        };
        return Initialization {
            summary,
            sidecars,
            unfinished: true,
        };
    }
    Initialization {
        summary,
        sidecars,
        unfinished: false,
    }
}

fn phase_reason(pod: &Value) -> String {
    let gated = list(pod, "/status/conditions")
        .iter()
        .any(|c| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated");
    if gated {
        return "SchedulingGated".to_owned();
    }
    text_or(pod, "/status/reason", text(pod, "/status/phase")).to_owned()
}

fn terminated_reason(terminated: &Value) -> String {
    let signal = number(terminated, "/signal");
    match text(terminated, "/reason") {
        "" if signal != 0 => format!("Signal:{signal}"),
        "" => format!("ExitCode:{}", number(terminated, "/exitCode")),
        reason => reason.to_owned(),
    }
}

fn containers(pod: &Value, summary: &mut Summary) {
    let (mut running, mut error) = (false, String::new());
    for status in list(pod, "/status/containerStatuses").iter().rev() {
        count_restarts(status, &mut summary.restarts, &mut summary.last_restart);
        let waiting = text(status, "/state/waiting/reason");
        let terminated = status
            .pointer("/state/terminated")
            .filter(|t| t.is_object());
        let runs = status
            .pointer("/state/running")
            .is_some_and(Value::is_object);
        if !waiting.is_empty() {
            waiting.clone_into(&mut summary.reason);
        } else if let Some(terminated) = terminated {
            summary.reason = terminated_reason(terminated);
            if number(terminated, "/exitCode") != 0 {
                error.clone_from(&summary.reason);
            }
        } else if status["ready"] == true && runs {
            running = true;
            summary.ready += 1;
        }
    }
    // A pod of which one container is done and another still runs is not `Completed`.
    if summary.reason == "Completed" {
        if running && condition_is_true(pod, "Ready") {
            summary.reason = "Running".to_owned();
        } else if !error.is_empty() {
            summary.reason = error;
        } else if running {
            summary.reason = "NotReady".to_owned();
        }
    }
}
