//! What holds of a Cluster after any history.

use proptest::prelude::*;
use serde_json::json;
use tmc_api::conditions::ConditionStatus;
use tmc_api::workload::ClusterPhase;

use super::tests::*;
use super::*;

/// The phase by the table of types, 2.4.
fn phase_of(cluster: &Cluster) -> ClusterPhase {
    let list = cluster.conditions();
    let gates = [condition::CREDENTIALS_VALID, condition::CONNECTED];
    let status = cluster.status.as_ref().unwrap();
    if cluster.metadata.deletion_timestamp.is_some() {
        ClusterPhase::Terminating
    } else if conditions::is_true(list, READY) {
        ClusterPhase::Ready
    } else if gates.iter().any(|gate| conditions::is_false(list, gate))
        && status.sync_target_ref.is_some()
    {
        ClusterPhase::Unavailable
    } else if gates.iter().all(|gate| conditions::is_true(list, gate)) {
        ClusterPhase::Registered
    } else {
        ClusterPhase::Pending
    }
}

proptest! {
    /// The invariants of types, 2.4, after any history: Ready is the phase Ready and all gates open in
    /// the same pass, the phase is the table's, without a valid credential nothing is said of the
    /// member, and what was discovered is fresh or says that it is not.
    #[test]
    fn ready_phase_and_staleness_of_a_cluster_agree_after_any_history(
        steps in prop::collection::vec(
            (
                (0_u8..4, 0_u8..6, 0_u8..4, 0_u8..6), 1_u32..6,
                prop_oneof![4 => 1_i64..3, 1 => 26_i64..130], prop::bool::weighted(0.2),
            ),
            1..14,
        ),
        deleted_at in 0_usize..40,
    ) {
        let mut cluster = cluster();
        let mut now = 0;
        // What the process remembers of discoveries.
        let (mut remembered, mut undiscovered) = (None, None);
        for (number, ((credential, probe, derived, rbac), failures, elapsed, restarts)) in steps.into_iter().enumerate() {
            // Of this step no sum is so near an hour that a second pass soon after is past it.
            now += elapsed * 70;
            let credential = match credential {
                0 => Err((reason::CREDENTIALS_EXPIRED, "x".to_owned())),
                1 => Ok(ValidCredential { expires: Some(at(now + 60)), ..valid().unwrap() }),
                _ => valid(),
            };
            if restarts {
                (remembered, undiscovered) = (None, None);
            }
            let served = |served| Ok(Found { version: "v1".into(), served });
            let refused = || Failure { reason: reason::CONNECTION_FAILED, message: "no".into() };
            let probe = match probe {
                _ if credential.is_err() => None,
                0 => None,
                1 => probed_at(now, failures, timeout()),
                2 => probed_at(now, 0, served(None)),
                3 => probed_at(now, 0, served(Some(Err(refused())))),
                _ => probed_at(now, 0, Ok(found())),
            };
            if let Some(found) = probe.as_ref().and_then(|p| p.outcome.as_ref().ok()) {
                if let Some(served) = &found.served {
                    undiscovered = served.as_ref().err().cloned();
                }
                remembered = capabilities(found, at(now)).map(Arc::new).or(remembered);
            }
            // Without a credential nothing is handed out of what is remembered.
            let observed = Observed {
                undiscovered: undiscovered.clone().filter(|_| credential.is_ok()),
                capabilities: remembered.clone().filter(|_| credential.is_ok()),
                probe,
                derived: match derived {
                    0 => Derived::Missing,
                    1 => Derived::Conflict("east-x".into()),
                    2 => target(json!({})),
                    _ => ready_target(),
                },
                rbac: match rbac {
                    0 => Rbac::Ours(None),
                    1 => arranged(Err(Shortfall::Failed("x".into()))),
                    2 => Rbac::NotOurs,
                    3 => Rbac::NoTarget,
                    4 => arranged(Err(Shortfall::Unanswered("x".into()))),
                    _ => arranged(Ok(())),
                },
                nodes: None,
                persist_every: crate::heartbeat::PERSIST_EVERY,
                credential,
            };
            if number == deleted_at {
                cluster.metadata.deletion_timestamp = serde_json::from_value(json!("2033-01-01T00:00:00Z")).unwrap();
            }
            cluster = after(&cluster, &observed, at(now));
            let (phase, ready, _) = verdict(&cluster);
            prop_assert_eq!(phase, phase_of(&cluster));
            prop_assert_eq!(phase == ClusterPhase::Ready, ready == ConditionStatus::True);
            let (list, status) = (cluster.conditions(), cluster.status.as_ref().unwrap());
            let gates = [
                condition::CREDENTIALS_VALID, condition::CONNECTED, condition::RBAC_READY,
                condition::SYNC_TARGET_READY,
            ];
            let deleting = cluster.metadata.deletion_timestamp.is_some();
            let open = gates.iter().all(|gate| conditions::is_true(list, gate));
            let known = status.capabilities.as_ref();
            prop_assert_eq!(ready == ConditionStatus::True, open && known.is_some() && !deleting);
            if observed.credential.is_err() {
                for gate in [condition::CONNECTED, condition::RBAC_READY] {
                    prop_assert!(!conditions::is_true(list, gate) && !conditions::is_false(list, gate));
                }
                prop_assert_eq!(&status.credentials, &None);
            }
            let said = conditions::get(list, condition::CAPABILITIES_DISCOVERED);
            prop_assert!(known.is_none() || said.is_some(), "what is known says how old it is");
            prop_assert!(observed.undiscovered.is_none() || said.is_some_and(Condition::is_false));
            let fresh = said.is_some_and(Condition::is_true);
            if let Some(known) = known.filter(|_| fresh) {
                prop_assert!(conditions::is_true(list, condition::CONNECTED));
                let age = known.observed_at.unwrap().timestamp().duration_until(at(now));
                prop_assert!(age <= SignedDuration::from_hours(1), "{age:?}");
            }
        }
    }
}
