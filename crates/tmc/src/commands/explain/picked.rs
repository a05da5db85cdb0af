//! The targets that Placements picked: which they are, and how they are.

use jiff::Timestamp;
use serde_json::Value;
use tmc_apimachinery::meta::meta;

use super::step::{Mark, Step};
use super::times;
use super::world::{Found, World};
use crate::commands::decision::{self, Leaving};
use crate::commands::sync;
use crate::output::{self, ago, text};

/// A target that a Placement of the object picked.
pub(super) struct Picked<'a> {
    pub(super) value: &'a Value,
    pub(super) placement: &'a Value,
    /// Path of its workspace.
    pub(super) provider: &'a str,
    pub(super) found: Found<'a>,
}

impl Picked<'_> {
    pub(super) fn name(&self) -> &str {
        text(self.value, "/name")
    }

    pub(super) fn key(&self) -> &str {
        text(self.value, "/key")
    }

    /// Whether its agent can be expected to do anything: what is hidden is believed to work.
    pub(super) fn works(&self) -> bool {
        match self.found {
            Found::There(target) => output::condition(target, "Ready") == "True",
            Found::Gone => false,
            Found::Hidden => true,
        }
    }

    /// What the Placement remembers of picking it; null if nothing.
    fn decision(&self) -> &Value {
        decision::of(self.placement, self.key()).unwrap_or(&Value::Null)
    }

    /// When it was picked: by its own record, else by that of the Placement as a whole.
    pub(super) fn decided(&self) -> Option<Timestamp> {
        output::time(self.decision(), "/time")
            .or_else(|| times::condition(self.placement, "Scheduled"))
    }
}

/// The step about a target itself.
pub(super) fn step(world: &World, picked: &Picked<'_>) -> Step {
    let leaving = decision::leaving(picked.placement, picked.key());
    let mut step = match picked.found {
        Found::Gone => return gone(leaving.as_ref(), picked),
        Found::There(object) => state_of(world, object, picked),
        Found::Hidden => {
            let said = format!("picked; how it is, only {} may see", picked.provider);
            Step::done("target", "Picked", said)
                .because(text(picked.decision(), "/reason"))
                .since(picked.decided())
        }
    };
    match (leaving, step.mark) {
        (Some(leaving), Mark::Done) => left(&leaving, picked),
        (Some(leaving), _) if !leaving.held.is_empty() => {
            step.text = format!("{}; {}", step.text, leaving.held);
            step
        }
        (None, Mark::Done) => {
            let why = decision::picked_because(picked.placement, picked.key());
            if !why.is_empty() {
                step.text = format!("{}; picked: {why}", step.text);
            }
            step
        }
        _ => step,
    }
}

/// A target that is not there, or only another one of its name.
fn gone(leaving: Option<&Leaving>, picked: &Picked<'_>) -> Step {
    let deleted = leaving.filter(|leaving| leaving.reason == "Deleted");
    Step::failed(
        "target",
        "TargetGone",
        "this SyncTarget does not exist any more",
    )
    .not_before(picked.decided())
    .since(deleted.and_then(|leaving| leaving.since))
    .advise("Wait for the hub to pick another; if this stays, look at the hub: tmc doctor")
}

/// A target that is well, as far as can be seen, and is to be left all the same.
fn left(leaving: &Leaving, picked: &Picked<'_>) -> Step {
    let said = match leaving.held {
        "" => "is to be left as soon as its time has come".to_owned(),
        held => format!("is to be left, but {held}"),
    };
    let advice = if leaving.for_good {
        format!(
            "Have another cluster of {} made fit to take over",
            picked.provider
        )
    } else {
        "Wait: it moves by itself".to_owned()
    };
    Step::waiting("target", "Leaving", said)
        .because(&leaving.reason)
        .not_before(picked.decided())
        .since(leaving.since)
        .advise(advice)
}

fn state_of(world: &World, object: &Value, picked: &Picked<'_>) -> Step {
    let name = picked.name();
    if meta(object).is_being_deleted() {
        let said = "is being removed, and what it has moves away";
        return Step::waiting("target", "Terminating", said)
            .since(meta(object).deletion_timestamp().parse().ok())
            .advise("Wait; if this stays, see what holds it: tmc doctor");
    }
    let ready = output::find_condition(object, "Ready");
    if output::condition(object, "Ready") != "True" {
        let said = ready.map_or("not looked at yet", |c| text(c, "/message"));
        let heard = output::time(object, "/status/lastHeartbeatTime")
            .map_or("never".to_owned(), |at| {
                format!("{} ago", ago(at, world.now))
            });
        let said = format!("not Ready: {said} (last heard: {heard})");
        return Step::failed("target", "NotReady", said)
            .because(ready.map_or("", |c| text(c, "/reason")))
            .since(times::created(object))
            .since(ready.and_then(times::changed))
            .advise(target_advice(world, object, picked));
    }
    if output::time(object, "/spec/evictAfter").is_some_and(|at| at <= world.now) {
        let said = "is being drained, and nothing has taken its place yet";
        return Step::waiting("target", "Draining", said)
            .since(output::time(object, "/spec/evictAfter"))
            .advise(format!(
                "Wait, or end the draining: tmc {}uncordon {name}",
                world.flags.to(picked.provider)
            ));
    }
    let cordoned = if object["spec"]["unschedulable"] == true {
        ", cordoned (what is there stays)"
    } else {
        ""
    };
    let picked_at = output::time(picked.decision(), "/time");
    Step::done("target", "Ready", format!("Ready{cordoned}"))
        .because(text(picked.decision(), "/reason"))
        .since(times::last([ready.and_then(times::changed), picked_at]))
}

/// What to do about a target that is not Ready.
fn target_advice(world: &World, object: &Value, picked: &Picked<'_>) -> String {
    let (name, flag) = (picked.name(), world.flags.to(picked.provider));
    if text(object, "/spec/syncerConfig/mode") == "External"
        && output::time(object, "/status/lastHeartbeatTime").is_none()
    {
        let remedy = sync::start_remedy(object, &flag);
        return remedy.replacen("start", "Start", 1);
    }
    format!("Bring the cluster back; see what is wrong: tmc {flag}cluster describe {name}")
}
