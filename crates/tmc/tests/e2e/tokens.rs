//! Tokens of ServiceAccounts with a stock kubectl.

use serde_json::json;

use crate::support::http::Api;
use crate::support::hub::Hub;
use crate::support::real::needs_real_programs;

#[test]
fn kubectl_creates_tokens_which_the_hub_believes_across_a_restart() {
    needs_real_programs!();
    let mut hub = Hub::start();
    let workspace = hub.workspace("robots");
    let kubectl = hub.kubectl(&workspace);
    kubectl.ok(&["create", "serviceaccount", "robot"]);
    kubectl.ok(&["create", "secret", "generic", "lifeline"]);
    kubectl.ok(&[
        "create",
        "rolebinding",
        "robot",
        "--clusterrole=view",
        "--serviceaccount=default:robot",
    ]);
    let create = ["create", "token", "robot", "--duration=20m"];
    let token = kubectl.ok(&create).trim().to_owned();
    let to_secret = ["--bound-object-kind=Secret", "--bound-object-name=lifeline"];
    let bound = kubectl.ok(&[&create[..], &to_secret[..]].concat());
    let bound = bound.trim().to_owned();

    let base = format!("/clusters/{workspace}");
    let maps = "/api/v1/namespaces/default/configmaps";
    let text = hub.kubeconfig();
    let robot = Api::with_token(&text, &token);
    for path in [format!("{base}{maps}"), maps.to_owned()] {
        robot.get(&path).expect(&[200]);
    }
    robot
        .get(&format!("{base}/api/v1/namespaces/default/secrets"))
        .expect(&[403]);
    robot.get(&format!("/clusters/root{maps}")).expect(&[403]);
    Api::with_token(&text, &bound).get(maps).expect(&[200]);

    hub.kill();
    hub.restart();
    let kubectl = hub.kubectl(&workspace);
    kubectl.ok(&["delete", "secret", "lifeline"]);
    let text = hub.kubeconfig();
    Api::with_token(&text, &token).get(maps).expect(&[200]);
    Api::with_token(&text, &bound).get(maps).expect(&[401]);
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token}});
    let reviews = format!("{base}/apis/authentication.k8s.io/v1/tokenreviews");
    let answer = hub.api().post(&reviews, &review).expect(&[201]).json();
    let user = &answer["status"]["user"];
    assert_eq!(user["username"], "system:serviceaccount:default:robot");
    let keys = hub.data_directory().join("serviceaccount-keys.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(keys)
            .expect("the keys are kept")
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}
