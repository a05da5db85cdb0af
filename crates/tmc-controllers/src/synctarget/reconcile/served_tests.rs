//! What a Cluster's status says of what its member serves.

use tmc_api::workload::ApiGroup;

use super::tests::deployments;
use super::*;

fn group(name: &str, versions: Vec<String>, resources: Vec<String>) -> ApiGroup {
    ApiGroup {
        name: name.into(),
        versions,
        resources,
        ..ApiGroup::default()
    }
}

#[test]
fn a_stored_status_with_any_number_of_versions_costs_no_more_than_what_is_wanted() {
    let versions = (0..100_000).map(|n| format!("v{n}")).collect();
    let resources = (0..500).map(|n| format!("r{n}")).collect();
    let capabilities = Capabilities {
        api_groups: vec![
            group("", versions, resources),
            group("apps", vec!["v1".into()], vec!["deployments".into()]),
        ],
        ..Capabilities::default()
    };
    let last = GroupVersionResource::new("", "v99999", "r499");
    let wanted = [
        deployments(),
        last.clone(),
        GroupVersionResource::new("", "v1", "services"),
        GroupVersionResource::new("apps", "v2", "deployments"),
    ];
    let served = apis_of(&capabilities, &wanted);
    assert_eq!(served, ServedApis::from([deployments(), last]));
}
