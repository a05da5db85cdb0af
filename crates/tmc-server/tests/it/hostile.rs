use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::StreamBody;
use rstest::rstest;
use tmc_server::Config;
use tower::ServiceExt;

use crate::harness::{DEPLOYMENTS, deployment, fixture, read, request, with_config};

#[rstest]
#[case(&[], "system:anonymous")]
#[case(&[("x-remote-user", "admin"), ("x-remote-group", "system:masters")], "system:anonymous")]
#[case(&[("authorization", "Bearer nobody"), ("X-Remote-User", "admin")], "nobody")]
#[tokio::test]
async fn a_claimed_identity_is_not_believed(#[case] headers: &[(&str, &str)], #[case] who: &str) {
    let answer = fixture().outside("GET", DEPLOYMENTS, headers).await;
    let message = format!(
        "deployments.apps is forbidden: User \"{who}\" cannot list resource \"deployments\" in API \
         group \"apps\" in the namespace \"ns\""
    );
    assert_eq!(answer.refusal(), (403, message));
}

#[rstest]
#[case("access_token=admin")]
#[case("token=admin")]
#[tokio::test]
async fn a_token_in_the_query_is_not_read(#[case] query: &str) {
    let answer = fixture()
        .outside("GET", &format!("{DEPLOYMENTS}?{query}"), &[])
        .await;
    assert_eq!(answer.refusal().0, 403);
}

#[tokio::test]
async fn a_token_opens_what_its_user_may_and_a_wrong_one_nothing() {
    let hub = fixture();
    let reader = [("authorization", "Bearer reader")];
    assert_eq!(
        hub.outside("GET", DEPLOYMENTS, &reader).await.status,
        StatusCode::OK
    );
    assert_eq!(
        hub.outside("DELETE", DEPLOYMENTS, &reader)
            .await
            .refusal()
            .0,
        403
    );
    let wrong = [("authorization", "Bearer wrong")];
    assert_eq!(
        hub.outside("GET", DEPLOYMENTS, &wrong).await.refusal(),
        (401, "Unauthorized".into())
    );
    assert_eq!(hub.outside("GET", "/none", &wrong).await.refusal().0, 401);
}

#[tokio::test]
async fn impersonation_is_refused_even_for_the_admin() {
    let hub = fixture();
    let (code, message) = hub
        .send("GET", DEPLOYMENTS, &[("impersonate-user", "x")], "")
        .await
        .refusal();
    assert_eq!(code, 403);
    assert!(message.contains("impersonate-user"), "{message}");
}

#[rstest]
#[case("/")]
#[case("/none")]
#[case("/metrics")]
#[case("/clusters")]
#[case("/version")]
#[case("/api/v1/namespaces")]
#[case("/clusters/a")]
#[case("/clusters/a/apis")]
#[case("/clusters/a/version")]
#[case("/clusters/a/openapi/v3")]
#[case("/clusters/a/readyz")]
#[case("/clusters/a/api/v1/namespaces")]
#[case("/clusters/gone/api/v1/namespaces")]
#[case("/clusters/a/apis/special/v1/beat")]
#[tokio::test]
async fn every_path_but_the_exempt_ones_is_closed_to_strangers(#[case] path: &str) {
    let hub = fixture();
    for method in ["GET", "POST", "DELETE", "HEAD"] {
        let answer = hub.outside(method, path, &[]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path}");
    }
}

#[tokio::test]
async fn a_stranger_cannot_tell_what_exists() {
    let hub = fixture();
    hub.deploy("web").await;
    let mut texts = Vec::new();
    for name in ["web", "none"] {
        let answer = hub
            .outside("GET", &format!("{DEPLOYMENTS}/{name}"), &[])
            .await;
        texts.push(answer.refusal().1);
    }
    assert_eq!(texts[0].replace("web", "none"), texts[1]);
}

#[rstest]
#[case("/clusters/a/../b/api/v1/namespaces")]
#[case("/clusters/a/%2e%2e/b/api/v1/namespaces")]
#[case("/clusters/a//api/v1/namespaces")]
#[case("//clusters/a/api")]
#[case("/clusters/a/api/v1/namespaces/./x")]
#[case("/clusters/a/api/v1/namespaces/a%2Fb")]
#[case("/clusters/a/api/v1/namespaces/%00")]
#[case("/clusters/a/api/v1/namespaces/%zz")]
#[case("/clusters/A_B/api")]
#[case("/clusters/a:/api")]
#[case("/clusters/%2a/api/v1/namespaces")]
#[tokio::test]
async fn paths_that_can_be_read_in_two_ways_are_400(#[case] path: &str) {
    let hub = fixture();
    assert_eq!(hub.get(path).await.refusal().0, 400, "{path}");
}

#[tokio::test]
async fn methods_that_nobody_knows_are_405() {
    let hub = fixture();
    for method in ["OPTIONS", "TRACE", "CONNECT", "BREW"] {
        for path in ["/clusters/a/apis", DEPLOYMENTS] {
            assert_eq!(
                hub.send(method, path, &[], "").await.refusal().0,
                405,
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn a_body_over_three_mebibytes_is_413() {
    let hub = fixture();
    const LIMIT: usize = 3 * 1024 * 1024;
    let json = [("content-type", "application/json")];
    let mut fits = deployment("fits").to_string().into_bytes();
    fits.resize(LIMIT, b' ');
    assert_eq!(
        hub.send("POST", DEPLOYMENTS, &json, fits.clone())
            .await
            .status,
        201
    );
    fits.push(b' ');
    let (code, message) = hub.send("POST", DEPLOYMENTS, &json, fits).await.refusal();
    assert_eq!(
        (code, message.as_str()),
        (413, "Request entity too large: limit is 3145728")
    );
    let piece = || {
        Ok::<_, std::io::Error>(http_body::Frame::data(bytes::Bytes::from(vec![
            b' ';
            1 << 20
        ])))
    };
    let endless = StreamBody::new(futures::stream::repeat_with(piece));
    let unknown_length = Request::post(DEPLOYMENTS).body(endless).unwrap();
    let answer = read(hub.admin().oneshot(unknown_length).await.unwrap()).await;
    assert_eq!(answer.refusal().0, 413);
}

#[tokio::test]
async fn an_alias_bomb_is_400_and_quick() {
    let hub = fixture();
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..20 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let begun = std::time::Instant::now();
    let yaml = [("content-type", "application/yaml")];
    let (code, message) = hub.send("POST", DEPLOYMENTS, &yaml, bomb).await.refusal();
    assert_eq!(code, 400);
    assert!(message.contains("not valid YAML"), "{message}");
    assert!(message.len() < 2000, "{}", message.len());
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[rstest]
#[case("application/json", "[".repeat(1_000_000))]
#[case("application/yaml", "[".repeat(1_000_000))]
#[case("application/json", "{\"a\":".repeat(500_000))]
#[tokio::test]
async fn deep_nesting_is_400(#[case] media: &str, #[case] body: String) {
    let hub = fixture();
    let answer = hub
        .send("POST", DEPLOYMENTS, &[("content-type", media)], body)
        .await;
    assert_eq!(answer.refusal().0, 400);
}

#[tokio::test]
async fn a_panic_is_500_and_the_server_goes_on() {
    let hub = fixture();
    let answer = hub.get(&format!("{DEPLOYMENTS}/panic")).await;
    let (code, message) = answer.refusal();
    assert_eq!(code, 500);
    assert!(message.contains(answer.header("audit-id")), "{message}");
    assert!(!message.contains("asked to"), "{message}");
    assert_eq!(hub.get(DEPLOYMENTS).await.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_is_504() {
    let (code, message) = fixture()
        .get(&format!("{DEPLOYMENTS}/slow"))
        .await
        .refusal();
    assert_eq!(code, 504);
    assert!(message.contains("60 s"), "{message}");
}

#[tokio::test]
async fn too_many_requests_at_once_are_429_but_not_watches_or_callers_inside() {
    let hub = with_config(Config {
        max_reads_in_flight: 1,
        ..Config::default()
    });
    let token = [("authorization", "Bearer reader")];
    let slow =
        hub.server
            .service()
            .oneshot(request("GET", &format!("{DEPLOYMENTS}/slow"), &token, ""));
    let slow = tokio::spawn(slow);
    // The slow request holds the only place once it has been polled.
    loop {
        let answer = hub.outside("GET", DEPLOYMENTS, &token).await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(answer.header("retry-after"), "1");
            assert_eq!(answer.refusal().0, 429);
            break;
        }
        tokio::task::yield_now().await;
    }
    let watch = hub
        .open(request(
            "GET",
            &format!("{DEPLOYMENTS}?watch=true"),
            &token,
            "",
        ))
        .await;
    assert_eq!(watch.status(), StatusCode::OK);
    assert_eq!(hub.get(DEPLOYMENTS).await.status, StatusCode::OK);
    slow.abort();
}

#[tokio::test]
async fn a_special_endpoint_gets_the_body_after_authorization() {
    let hub = fixture();
    let answer = hub
        .send("POST", "/clusters/a/apis/special/v1/beat", &[], "12345")
        .await;
    assert_eq!(
        answer.json(),
        serde_json::json!({"method": "POST", "bytes": 5})
    );
}
