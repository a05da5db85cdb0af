//! The decision of a candidate: what to do about a Lease that it has read, by its own clock alone.
//!
//! Times written in the Lease are never compared with the own clock. What counts is when *this*
//! candidate last saw the Lease change: from then on its holder has as long as the Lease says
//! (client-go's rule). For the own term what counts is when the last renewal that was acknowledged
//! had been *sent*: whatever the server did with it, it did later.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tmc_apimachinery::meta::meta;

/// A moment by two clocks. The monotonic one decides; the wall clock is a second witness, because a
/// monotonic clock may stand still while the machine is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since some origin of this process.
    pub monotonic: Duration,
    /// Time of day.
    pub wall: Timestamp,
}

impl Moment {
    /// Time passed since an earlier moment: the longer of what the clocks say. A wall clock that was
    /// set back says nothing.
    pub fn since(&self, earlier: &Self) -> Duration {
        let monotonic = self.monotonic.saturating_sub(earlier.monotonic);
        let wall = self.wall.duration_since(earlier.wall);
        monotonic.max(Duration::try_from(wall).unwrap_or_default())
    }
}

/// The times of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// How long after its last renewal, as others see it, a holder cannot be replaced.
    pub duration: Duration,
    /// How long after its last renewal a holder writes. What is between this and `duration` is the
    /// margin for differing clocks and for requests that are under way when the term ends.
    pub deadline: Duration,
    /// How often a holder renews and a candidate looks.
    pub retry: Duration,
}

impl Default for Times {
    /// Those of Kubernetes' own controllers: 15 s, 10 s, 2 s.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

impl Times {
    /// Whether they can keep two holders apart.
    ///
    /// # Errors
    /// A sentence, unless `duration` ≥ 1.2 × `deadline`, `deadline` ≥ 2 × `retry`, `retry` > 0, and
    /// `duration` is whole seconds.
    pub fn check(&self) -> Result<(), String> {
        let sound = self.retry > Duration::ZERO
            && self.deadline >= self.retry * 2
            && self.duration >= self.deadline.mul_f64(1.2)
            && self.duration.subsec_nanos() == 0;
        if sound {
            Ok(())
        } else {
            Err(format!(
                "a lease of {:?} with a deadline of {:?} and a retry of {:?} is not sound: take whole \
                 seconds of at least 1.2 times the deadline, and a deadline of at least two retries",
                self.duration, self.deadline, self.retry
            ))
        }
    }
}

/// What a Lease says, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; empty if nobody.
    pub holder: String,
    /// `spec.leaseDurationSeconds`.
    pub seconds: u64,
    /// `spec.leaseTransitions`.
    pub transitions: u64,
    /// `metadata.resourceVersion`: changes with every write.
    pub version: String,
}

impl Record {
    /// Reads a Lease object. What is missing or makes no sense is 0 or empty.
    pub fn read(lease: &Value) -> Self {
        let number = |field: &str| lease["spec"][field].as_u64().unwrap_or_default();
        Self {
            holder: lease["spec"]["holderIdentity"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            seconds: number("leaseDurationSeconds"),
            transitions: number("leaseTransitions"),
            version: meta(lease).resource_version().to_owned(),
        }
    }
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the Lease, held by this candidate.
    Create,
    /// Take it over from a holder that is gone, or take up what was already written in the own name.
    Take,
    /// Renew the own term.
    Renew,
    /// Another one holds it: look again.
    Wait,
    /// Another one holds it although this candidate was leading.
    StepDown,
}

/// A candidate's knowledge. Holds no clock: each call says when it is.
#[derive(Clone, Debug)]
pub struct Candidate {
    identity: String,
    times: Times,
    /// The Lease as last read, and when it was first seen like that.
    observed: Option<(Record, Moment)>,
    /// Until when the holder as last read is respected, measured from when it was seen.
    leading: Option<Moment>,
}

impl Candidate {
    /// One that has seen nothing. The identity must be unique to this process *and* this start: who
    /// comes back under an old name would inherit a term that it does not remember.
    pub fn new(identity: &str, times: Times) -> Self {
        Self {
            identity: identity.to_owned(),
            times,
            observed: None,
            leading: None,
        }
    }

    /// Its identity.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Its times.
    pub fn times(&self) -> Times {
        self.times
    }

    /// Notes the Lease as read (`None`: there is none); `now` is after the answer came.
    pub fn observe(&mut self, read: Option<Record>, now: Moment) {
        match read {
            None => self.observed = None,
            Some(record) => {
                let same = self
                    .observed
                    .as_ref()
                    .is_some_and(|(known, _)| *known == record);
                if !same {
                    self.observed = Some((record, now));
                }
            }
        }
    }

    /// Notes that a Lease with this candidate as its holder was written; `sent` is from before the
    /// request was sent. Begins or prolongs the term.
    pub fn wrote(&mut self, record: Record, sent: Moment) {
        self.observed = Some((record, sent));
        self.leading = Some(sent);
    }

    /// Forgets the own term: it was given up, or lost.
    pub fn step_down(&mut self) {
        self.leading = None;
    }

    /// Whether the term holds at `now`. Nothing may be written in its name when this is false.
    pub fn leads(&self, now: &Moment) -> bool {
        self.leading
            .as_ref()
            .is_some_and(|renewed| now.since(renewed) < self.times.deadline)
    }

    /// What to do about the Lease as last read.
    pub fn step(&self, now: &Moment) -> Step {
        let was_leading = self.leading.is_some();
        let Some((record, seen)) = &self.observed else {
            return Step::Create;
        };
        if record.holder == self.identity {
            return if self.leads(now) {
                Step::Renew
            } else {
                Step::Take
            };
        }
        if was_leading {
            return Step::StepDown;
        }
        // Somebody with longer times of its own is given them.
        let respected = self.times.duration.max(Duration::from_secs(record.seconds));
        if record.holder.is_empty() || now.since(seen) > respected {
            Step::Take
        } else {
            Step::Wait
        }
    }

    /// The Lease to write for [`Step::Create`], [`Step::Take`] and [`Step::Renew`], from the one as
    /// last read (which it is conditional on); `wall` goes into it for people to read.
    pub fn desired(
        &self,
        namespace: &str,
        name: &str,
        old: Option<&Value>,
        wall: Timestamp,
    ) -> Value {
        let mut lease = old.cloned().unwrap_or_else(|| {
            json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"namespace": namespace, "name": name},
            })
        });
        let before = old.map(Record::read);
        let time = micro_time(wall);
        let renewal = before
            .as_ref()
            .is_some_and(|record| record.holder == self.identity);
        if !lease["spec"].is_object() {
            lease["spec"] = json!({});
        }
        lease["spec"]["holderIdentity"] = self.identity.as_str().into();
        lease["spec"]["leaseDurationSeconds"] = self.times.duration.as_secs().into();
        lease["spec"]["renewTime"] = time.as_str().into();
        if !renewal {
            lease["spec"]["acquireTime"] = time.into();
            let transitions = before.map_or(0, |record| record.transitions + 1);
            lease["spec"]["leaseTransitions"] = transitions.into();
        }
        lease
    }

    /// The Lease without a holder, so that the next one need not wait.
    pub fn released(old: &Value, wall: Timestamp) -> Value {
        let mut lease = old.clone();
        lease["spec"]["holderIdentity"] = "".into();
        lease["spec"]["leaseDurationSeconds"] = 1.into();
        lease["spec"]["renewTime"] = micro_time(wall).into();
        lease
    }
}

/// Kubernetes' MicroTime.
fn micro_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment {
            monotonic: Duration::from_secs(seconds),
            wall: Timestamp::from_second(2_000_000_000).unwrap()
                + jiff::SignedDuration::from_secs(seconds.try_into().unwrap()),
        }
    }

    fn held_by(holder: &str, seconds: u64, version: &str) -> Record {
        Record {
            holder: holder.into(),
            seconds,
            transitions: 3,
            version: version.into(),
        }
    }

    fn candidate() -> Candidate {
        Candidate::new("me", Times::default())
    }

    #[rstest]
    // No Lease, a released one, the own name in it.
    #[case(None, 0, Step::Create)]
    #[case(Some(held_by("", 1, "1")), 0, Step::Take)]
    #[case(Some(held_by("me", 15, "1")), 0, Step::Take)]
    // Another one: its time counts from when it was first seen.
    #[case(Some(held_by("you", 15, "1")), 0, Step::Wait)]
    #[case(Some(held_by("you", 15, "1")), 15, Step::Wait)]
    #[case(Some(held_by("you", 15, "1")), 16, Step::Take)]
    // Its own longer time is respected, a shorter one is not believed.
    #[case(Some(held_by("you", 60, "1")), 60, Step::Wait)]
    #[case(Some(held_by("you", 60, "1")), 61, Step::Take)]
    #[case(Some(held_by("you", 1, "1")), 15, Step::Wait)]
    fn a_candidate_takes_what_nobody_has_held_for_long_enough(
        #[case] read: Option<Record>,
        #[case] later: u64,
        #[case] step: Step,
    ) {
        let mut candidate = candidate();
        candidate.observe(read.clone(), at(100));
        // The same again is no sign of life.
        candidate.observe(read, at(100 + later));
        assert_eq!(candidate.step(&at(100 + later)), step);
    }

    #[test]
    fn any_change_of_the_lease_starts_the_time_anew() {
        let mut candidate = candidate();
        candidate.observe(Some(held_by("you", 15, "1")), at(0));
        candidate.observe(Some(held_by("you", 15, "2")), at(14));
        assert_eq!(candidate.step(&at(20)), Step::Wait);
        assert_eq!(candidate.step(&at(30)), Step::Take);
    }

    #[test]
    fn a_term_lasts_from_when_its_last_renewal_was_sent() {
        let mut candidate = candidate();
        assert!(!candidate.leads(&at(0)));
        candidate.wrote(held_by("me", 15, "1"), at(0));
        assert!(candidate.leads(&at(9)));
        assert_eq!(candidate.step(&at(9)), Step::Renew);
        assert!(!candidate.leads(&at(10)), "the deadline itself is too late");
        candidate.wrote(held_by("me", 15, "2"), at(9));
        assert!(candidate.leads(&at(18)));
        candidate.observe(Some(held_by("you", 15, "3")), at(18));
        assert_eq!(candidate.step(&at(18)), Step::StepDown);
        candidate.step_down();
        assert!(!candidate.leads(&at(18)));
        assert_eq!(candidate.step(&at(18)), Step::Wait);
    }

    #[test]
    fn a_leap_of_the_wall_clock_ends_a_term_and_a_fall_does_not() {
        let mut candidate = candidate();
        candidate.wrote(held_by("me", 15, "1"), at(100));
        let suspended = Moment {
            wall: at(160).wall,
            ..at(101)
        };
        assert!(!candidate.leads(&suspended));
        let set_back = Moment {
            wall: at(0).wall,
            ..at(101)
        };
        assert!(candidate.leads(&set_back));
    }

    #[test]
    fn taking_counts_a_transition_and_renewing_keeps_when_it_was_taken() {
        let candidate = candidate();
        let made = candidate.desired("kcp-system", "tmc-controllers", None, at(0).wall);
        assert_eq!(made["spec"]["leaseTransitions"], 0);
        assert_eq!(made["spec"]["acquireTime"], "2033-05-18T03:33:20.000000Z");
        let renewed = candidate.desired("", "", Some(&made), at(2).wall);
        assert_eq!(renewed["spec"]["acquireTime"], made["spec"]["acquireTime"]);
        assert_eq!(renewed["spec"]["renewTime"], "2033-05-18T03:33:22.000000Z");
        assert_eq!(renewed["spec"]["leaseTransitions"], 0);
        let other = Candidate::new("you", Times::default());
        let taken = other.desired("", "", Some(&renewed), at(60).wall);
        assert_eq!(taken["spec"]["leaseTransitions"], 1);
        assert_eq!(taken["spec"]["holderIdentity"], "you");
        let released = Candidate::released(&taken, at(61).wall);
        assert_eq!(Record::read(&released).holder, "");
    }

    #[rstest]
    #[case(15, 10_000, 2000, true)]
    #[case(6, 5000, 1000, true)]
    #[case(11, 10_000, 2000, false)]
    #[case(15, 10_000, 6000, false)]
    #[case(15, 10_000, 0, false)]
    fn times_without_a_margin_are_refused(
        #[case] duration: u64,
        #[case] deadline: u64,
        #[case] retry: u64,
        #[case] sound: bool,
    ) {
        let times = Times {
            duration: Duration::from_secs(duration),
            deadline: Duration::from_millis(deadline),
            retry: Duration::from_millis(retry),
        };
        assert_eq!(times.check().is_ok(), sound);
    }
}
