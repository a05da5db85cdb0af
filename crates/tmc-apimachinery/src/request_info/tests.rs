use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn parse(method: &str, url: &str) -> RequestInfo {
    let (path, query) = url
        .split_once('?')
        .map_or((url, None), |(p, q)| (p, Some(q)));
    RequestInfo::parse(method, path, query).unwrap_or_else(|e| panic!("{method} {url}: {e}"))
}

/// `verb group/version namespace resource name subresource`, with `-` for what is empty.
fn shown(info: &RequestInfo) -> String {
    let or_dash = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text.to_owned()
        }
    };
    let parts = [
        &info.verb,
        &info.group,
        &info.version,
        &info.namespace,
        &info.resource,
        &info.name,
        &info.subresource,
    ];
    parts.map(|p| or_dash(p)).join(" ")
}

#[rstest]
#[case("GET", "/api/v1/namespaces", "list - v1 - namespaces - -")]
#[case("GET", "/api/v1/namespaces/other", "get - v1 other namespaces other -")]
#[case("GET", "/api/v1/namespaces/other/pods", "list - v1 other pods - -")]
#[case(
    "GET",
    "/api/v1/namespaces/other/pods/foo",
    "get - v1 other pods foo -"
)]
#[case(
    "HEAD",
    "/api/v1/namespaces/other/pods/foo",
    "get - v1 other pods foo -"
)]
#[case("GET", "/api/v1/pods", "list - v1 - pods - -")]
#[case("GET", "/api/v1/pods/", "list - v1 - pods - -")]
#[case("POST", "/api/v1/pods", "create - v1 - pods - -")]
#[case("GET", "/api/v1/pods?watch=true", "watch - v1 - pods - -")]
#[case("GET", "/api/v1/pods?watch", "watch - v1 - pods - -")]
#[case("GET", "/api/v1/pods?watch=1", "watch - v1 - pods - -")]
#[case("GET", "/api/v1/pods?watch=false", "list - v1 - pods - -")]
#[case("GET", "/api/v1/pods?watch=0", "list - v1 - pods - -")]
#[case(
    "GET",
    "/api/v1/namespaces/other/pods/foo?watch=true",
    "get - v1 other pods foo -"
)]
#[case("GET", "/api/v1/watch/pods", "watch - v1 - pods - -")]
#[case(
    "GET",
    "/api/v1/watch/namespaces/other/pods",
    "watch - v1 other pods - -"
)]
#[case(
    "GET",
    "/api/v1/watch/namespaces/other/pods/foo",
    "watch - v1 other pods foo -"
)]
#[case(
    "GET",
    "/api/v1/watch/namespaces/other",
    "watch - v1 other namespaces other -"
)]
#[case(
    "GET",
    "/api/v1/namespaces/other/pods/foo/status",
    "get - v1 other pods foo status"
)]
#[case(
    "GET",
    "/api/v1/namespaces/other/pods/foo/log",
    "get - v1 other pods foo log"
)]
#[case(
    "PUT",
    "/api/v1/namespaces/other/finalize",
    "update - v1 other namespaces other finalize"
)]
#[case(
    "PUT",
    "/api/v1/namespaces/other/status",
    "update - v1 other namespaces other status"
)]
#[case(
    "PATCH",
    "/api/v1/namespaces/other/pods/foo",
    "patch - v1 other pods foo -"
)]
#[case(
    "DELETE",
    "/api/v1/namespaces/other/pods/foo",
    "delete - v1 other pods foo -"
)]
#[case(
    "DELETE",
    "/api/v1/namespaces/other/pods",
    "deletecollection - v1 other pods - -"
)]
#[case(
    "DELETE",
    "/api/v1/namespaces/other",
    "delete - v1 other namespaces other -"
)]
#[case(
    "DELETE",
    "/api/v1/namespaces",
    "deletecollection - v1 - namespaces - -"
)]
#[case(
    "POST",
    "/apis/apps/v1/namespaces/a/deployments",
    "create apps v1 a deployments - -"
)]
#[case(
    "PUT",
    "/apis/apps/v1/namespaces/a/deployments/b/scale",
    "update apps v1 a deployments b scale"
)]
#[case("GET", "/apis/apps/v1/deployments", "list apps v1 - deployments - -")]
#[case(
    "GET",
    "/apis/apps/v1/deployments?fieldSelector=metadata.name%3Dweb",
    "list apps v1 - deployments web -"
)]
#[case(
    "GET",
    "/apis/apps/v1/deployments?watch=1&fieldSelector=metadata.name=web",
    "watch apps v1 - deployments web -"
)]
#[case(
    "GET",
    "/apis/apps/v1/deployments?fieldSelector=metadata.name%3Da%2Fb",
    "list apps v1 - deployments - -"
)]
#[case(
    "GET",
    "/apis/apps/v1/deployments?fieldSelector=metadata.name%3D..",
    "list apps v1 - deployments - -"
)]
#[case(
    "GET",
    "/apis/apps/v1/deployments?fieldSelector=broken",
    "list apps v1 - deployments - -"
)]
#[case(
    "DELETE",
    "/apis/apps/v1/deployments?fieldSelector=metadata.name=web",
    "deletecollection apps v1 - deployments - -"
)]
#[case(
    "GET",
    "/api/v1/namespaces/a/services/b/proxy/some/where",
    "get - v1 a services b proxy"
)]
#[case(
    "GET",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Abasic-user",
    "get rbac.authorization.k8s.io v1 - clusterroles system:basic-user -"
)]
#[case(
    "GET",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/a%20b+c",
    "get rbac.authorization.k8s.io v1 - clusterroles a b+c -"
)]
#[case("GET", "/api/v1/pods?", "list - v1 - pods - -")]
#[case("GET", "/api/v1/pods?&limit=500", "list - v1 - pods - -")]
fn resource_paths_are_understood_as_kubernetes_does(
    #[case] method: &str,
    #[case] url: &str,
    #[case] expected: &str,
) {
    let info = parse(method, url);
    assert!(info.is_resource);
    assert_eq!(shown(&info), expected);
}

#[rstest]
#[case("GET", "/", "/")]
#[case("GET", "", "/")]
#[case("GET", "/api", "/api")]
#[case("GET", "/api/v1", "/api/v1")]
#[case("GET", "/api/v1/", "/api/v1")]
#[case("GET", "/apis", "/apis")]
#[case("GET", "/apis/apps", "/apis/apps")]
#[case("GET", "/apis/apps/v1", "/apis/apps/v1")]
#[case("POST", "/healthz/ping", "/healthz/ping")]
#[case("GET", "/openapi/v3/apis/apps/v1", "/openapi/v3/apis/apps/v1")]
#[case("GET", "/API/v1/pods", "/API/v1/pods")]
fn other_paths_are_not_resources(#[case] method: &str, #[case] url: &str, #[case] path: &str) {
    let info = parse(method, url);
    assert!(!info.is_resource);
    assert_eq!(info.path, path);
    assert_eq!(info.verb, method.to_lowercase());
    assert_eq!(info.resource, "");
}

#[rstest]
#[case("/api/v1/namespaces/a%2Fb/pods", "contains an encoded slash")]
#[case("/api/v1/pods/%2e%2e", "\"%2e%2e\" is not allowed")]
#[case("/api/v1/pods/..", "\"..\" is not allowed")]
#[case("/api/v1/./pods", "\".\" is not allowed")]
#[case("/metrics/../api/v1/secrets", "is not allowed")]
#[case("//api/v1/secrets", "is empty; remove the double slash")]
#[case("/api//v1/secrets", "is empty")]
#[case("/api/v1/secrets//", "is empty")]
#[case("/api/v1/pods/%zz", "is not percent-encoded UTF-8")]
#[case("/api/v1/pods/%f", "is not percent-encoded UTF-8")]
#[case("/api/v1/pods/%", "is not percent-encoded UTF-8")]
#[case("/api/v1/pods/%ff", "is not percent-encoded UTF-8")]
#[case("/api/v1/pods/a%00", "contains a control character")]
#[case("/api/v1/pods/a%0d%0aX:y", "contains a control character")]
#[case("/api/v1/pods/a/b/c", "has more parts")]
#[case("/api/v1/namespaces/n/pods/a/b/c", "has more parts")]
#[case("/api/v1/watch", "unable to determine the resource")]
#[case("/api/v1/pods:", "identity hash")]
#[case("/api/v1/:abc", "identity hash")]
#[case("/api/v1/pods:a:b", "identity hash")]
#[case(
    "/api/v1/pods?a=%zz",
    "the query parameter \"a\" is not percent-encoded UTF-8"
)]
fn a_path_that_could_be_read_in_two_ways_is_a_bad_request(#[case] url: &str, #[case] part: &str) {
    let (path, query) = url
        .split_once('?')
        .map_or((url, None), |(p, q)| (p, Some(q)));
    let error = RequestInfo::parse("GET", path, query).expect_err(url);
    assert_eq!(error.code, 400);
    assert!(error.message.contains(part), "{}", error.message);
}

#[test]
fn a_method_that_no_resource_knows_is_not_allowed() {
    for (method, path) in [
        ("OPTIONS", "/api/v1/pods"),
        ("get", "/api/v1/pods"),
        ("DELETE", "/api/v1/watch/pods"),
    ] {
        let error = RequestInfo::parse(method, path, None).expect_err(method);
        assert_eq!(error.code, 405, "{method} {path}");
    }
}

#[test]
fn a_wildcard_request_may_carry_an_identity() {
    let info = parse("GET", "/apis/example.io/v1/widgets:9c7d0aFF/one");
    assert_eq!(
        (&*info.resource, &*info.identity, &*info.name),
        ("widgets", "9c7d0aFF", "one")
    );
    let encoded = parse("GET", "/apis/example.io/v1/widgets%3Aabc");
    assert_eq!((&*encoded.resource, &*encoded.identity), ("widgets", "abc"));
    assert_eq!(
        info.gvr(),
        GroupVersionResource::new("example.io", "v1", "widgets")
    );
}

#[test]
fn the_old_watch_of_one_object_becomes_a_selector() {
    let info = parse(
        "GET",
        "/api/v1/watch/namespaces/a/pods/web?fieldSelector=x=y&limit=1",
    );
    assert_eq!(info.param("fieldSelector"), Some("metadata.name=web"));
    assert_eq!(info.param("limit"), Some("1"));
}

#[test]
fn a_query_is_decoded_in_order() {
    let info = parse("GET", "/version?&a=1&b=x+y%2B&a=2&&c&=d&e=%C3%A4");
    let expected = [
        ("a", "1"),
        ("b", "x y+"),
        ("a", "2"),
        ("c", ""),
        ("", "d"),
        ("e", "ä"),
    ];
    let expected = expected.map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(info.query, expected);
    assert_eq!(info.param("a"), Some("1"));
    assert_eq!(info.param("z"), None);
}

proptest! {
    #[test]
    fn no_request_makes_the_parser_panic(
        method in "(GET|PUT|DELETE|[A-Z]{0,4})", path in "\\PC{0,60}", query in "\\PC{0,30}",
    ) {
        let _ = RequestInfo::parse(&method, &path, Some(&query));
    }

    #[test]
    fn hostile_api_paths_never_yield_ambiguous_parts(
        parts in prop::collection::vec("(watch|namespaces|pods|status|[.]{0,3}|%2[eEfF]|a%|:|[a-z]{1,3}|\\PC)", 0..8),
    ) {
        let path = format!("/api/v1/{}", parts.join("/"));
        if let Ok(info) = RequestInfo::parse("GET", &path, None) {
            for part in [&info.resource, &info.namespace, &info.name, &info.subresource] {
                prop_assert!(!part.contains('/') && !matches!(part.as_str(), "." | ".."));
            }
            prop_assert!(!info.is_resource || !info.resource.is_empty());
        }
    }

    #[test]
    fn names_survive_their_encoding(name in "[^/\\p{Cc}]{1,20}") {
        prop_assume!(name != "." && name != "..");
        let encoded: String = name.bytes().map(|b| format!("%{b:02X}")).collect();
        let info = parse("GET", &format!("/api/v1/namespaces/n/pods/{encoded}"));
        prop_assert_eq!(info.name, name);
    }
}
