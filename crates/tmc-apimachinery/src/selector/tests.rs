use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[rstest]
#[case("", "")]
#[case("  ", "")]
#[case("a=b", "a=b")]
#[case("a==b", "a=b")]
#[case(" a  =  b ", "a=b")]
#[case("a!=b", "a!=b")]
#[case("a=", "a=")]
#[case("a=,b", "a=,b")]
#[case("b,a", "a,b")]
#[case("!a", "!a")]
#[case("! a", "!a")]
#[case("a in (c,b)", "a in (b,c)")]
#[case("a in(b,b)", "a=b")]
#[case("a notin (b,c)", "a notin (b,c)")]
#[case("a notin (b)", "a!=b")]
#[case("a in ()", "a=")]
#[case("a in (,)", "a=")]
#[case("a in (b,,c)", "a in (,b,c)")]
#[case("a>5,b<7", "a>5,b<7")]
#[case("a > 05", "a>5")]
#[case("in in (in,notin)", "in in (in,notin)")]
#[case("x in (foo,,baz),y,z notin ()", "x in (,baz,foo),y,z!=")]
#[case("example.com/A_b.c=1.2-3_4", "example.com/A_b.c=1.2-3_4")]
#[case("a\t=\nb\r", "a=b")]
fn a_selector_prints_canonically(#[case] text: &str, #[case] canonical: &str) {
    let selector = LabelSelector::parse(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
    assert_eq!(selector.to_string(), canonical);
    assert_eq!(canonical.parse::<LabelSelector>().unwrap(), selector);
}

#[rstest]
#[case("=b", "found '=', expected: !, identifier, or 'end of string'")]
#[case("a,", "found '', expected: identifier after ','")]
#[case("a,,b", "found ',', expected: identifier after ','")]
#[case(
    "a b",
    "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"
)]
#[case("a=b c", "found 'c', expected: ',' or 'end of string'")]
#[case("!a=b", "found '=', expected: ',' or 'end of string'")]
#[case("!", "unable to parse requirement: found '', expected: identifier")]
#[case("!!a", "unable to parse requirement: found '!', expected: identifier")]
#[case("a in b", "unable to parse requirement: found 'b' expected: '('")]
#[case(
    "a in (b",
    "unable to parse requirement: found '', expected: ',' or ')'"
)]
#[case(
    "a in (b c)",
    "unable to parse requirement: found 'c', expected: ',' or ')'"
)]
#[case(
    "a=(b)",
    "unable to parse requirement: found '(', expected: identifier"
)]
#[case("a=b=c", "found '=', expected: ',' or 'end of string'")]
#[case("a>x", "the value must be an integer")]
#[case("a>", "the value must be an integer")]
#[case("a>99999999999999999999", "the value must be an integer")]
#[case("-a", "key: Invalid value: \"-a\": name part must consist of")]
#[case(
    "a/b/c",
    "key: Invalid value: \"a/b/c\": a valid label key must consist of"
)]
#[case(
    "a=-",
    "values[0][a]: Invalid value: \"-\": a valid label must be an empty string or"
)]
#[case("a in (b,?)", "values[1][a]: Invalid value: \"?\"")]
#[case("ä", "key: Invalid value")]
#[case("a\0=b", "key: Invalid value")]
fn an_unreadable_selector_is_refused_with_the_part(#[case] text: &str, #[case] part: &str) {
    let error = LabelSelector::parse(text).expect_err(text);
    assert_eq!(error.code, 400);
    assert!(error.message.contains(part), "{text:?}: {}", error.message);
}

#[rstest]
#[case("", true)]
#[case("app=web", true)]
#[case("app=db", false)]
#[case("app!=db", true)]
#[case("app!=web", false)]
#[case("none!=web", true)]
#[case("none notin (a,b)", true)]
#[case("none in (a,b)", false)]
#[case("none=", false)]
#[case("empty=", true)]
#[case("app in (db,web)", true)]
#[case("app notin (db,web)", false)]
#[case("app", true)]
#[case("none", false)]
#[case("!app", false)]
#[case("!none", true)]
#[case("count>4", true)]
#[case("count>5", false)]
#[case("count<6", true)]
#[case("app>1", false)]
#[case("none<1", false)]
#[case("app=web,count=5", true)]
#[case("app=web,count=6", false)]
fn labels_are_matched_as_in_kubernetes(#[case] text: &str, #[case] matches: bool) {
    let selector = LabelSelector::parse(text).unwrap();
    let pairs = [("app", "web"), ("count", "5"), ("empty", "")];
    assert_eq!(selector.matches(&labels(&pairs)), matches);
    let object = json!({"metadata": {"labels": labels(&pairs)}});
    assert_eq!(selector.matches_object(&object), matches);
}

#[test]
fn an_object_without_labels_is_matched_like_one_with_none() {
    let selector = |text| LabelSelector::parse(text).unwrap();
    assert!(selector("!a").matches_object(&json!({})));
    assert!(!selector("a").matches_object(&json!({"metadata": {"labels": null}})));
}

#[test]
fn the_object_form_reads_like_the_text_form() {
    let selector = LabelSelector::from_object(&json!({
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["b", "a"]},
            {"key": "zone", "operator": "NotIn", "values": ["x"]},
            {"key": "on", "operator": "Exists"},
            {"key": "off", "operator": "DoesNotExist", "values": []},
        ],
    }));
    assert_eq!(
        selector.unwrap().to_string(),
        "app=web,!off,on,tier in (a,b),zone!=x"
    );
    assert!(
        LabelSelector::from_object(&json!({}))
            .unwrap()
            .is_everything()
    );
    let nulls = json!({"matchLabels": null, "matchExpressions": null});
    assert!(LabelSelector::from_object(&nulls).unwrap().is_everything());
}

#[rstest]
#[case(json!(null), "", "must be an object")]
#[case(json!({"matchLabels": []}), ".matchLabels", "must be an object")]
#[case(json!({"matchLabels": {"a": 1}}), ".matchLabels[a]", "must be a string")]
#[case(json!({"matchLabels": {"-": "a"}}), ".matchLabels", "name part must consist")]
#[case(json!({"matchLabels": {"a": "?"}}), ".matchLabels", "a valid label must be")]
#[case(json!({"matchExpressions": {}}), ".matchExpressions", "must be a list")]
#[case(json!({"matchExpressions": [1]}), ".matchExpressions[0]", "must be an object")]
#[case(json!({"matchExpressions": [{"key": "a"}]}), ".matchExpressions[0].operator", "not a valid selector operator")]
#[case(json!({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}), ".matchExpressions[0].operator", "\"Gt\": not a valid selector operator")]
#[case(json!({"matchExpressions": [{"operator": "Exists"}]}), ".matchExpressions[0].key", "name part must be non-empty")]
#[case(json!({"matchExpressions": [{"key": 1, "operator": "Exists"}]}), ".matchExpressions[0].key", "must be a string")]
#[case(json!({"matchExpressions": [{"key": "a", "operator": "In"}]}), ".matchExpressions[0].values", "must be specified when `operator` is 'In' or 'NotIn'")]
#[case(json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}), ".matchExpressions[0].values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")]
#[case(json!({"matchExpressions": [{"key": "a", "operator": "In", "values": "b"}]}), ".matchExpressions[0].values", "must be a list of strings")]
#[case(json!({"matchExpressions": [{"key": "a", "operator": "In", "values": [1]}]}), ".matchExpressions[0].values[0]", "must be a string")]
#[case(json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b", "?"]}]}), ".matchExpressions[0].values[1]", "a valid label must be")]
fn a_wrong_selector_object_is_refused_with_the_field(
    #[case] object: Value,
    #[case] field: &str,
    #[case] part: &str,
) {
    let causes = LabelSelector::validate_object("spec.selector", &object);
    let field = format!("spec.selector{field}");
    let found = causes
        .iter()
        .any(|c| c.field == field && c.message.contains(part));
    assert!(found, "{causes:?}");
    let error = LabelSelector::from_object(&object).expect_err("invalid");
    assert_eq!(error.code, 400);
    assert!(error.message.contains(part), "{}", error.message);
}

#[test]
fn a_right_selector_object_has_no_errors() {
    assert!(
        LabelSelector::validate_object("spec.selector", &json!({"matchLabels": {"a": "b"}}))
            .is_empty()
    );
}

#[test]
fn selectors_are_put_together_in_canonical_order() {
    let selector = LabelSelector::default()
        .with(Requirement::exists("z"))
        .with(Requirement {
            key: "m".into(),
            operator: Operator::In(vec!["2".into(), "1".into()]),
        })
        .with(Requirement::equals("a", "b"));
    assert_eq!(selector.to_string(), "a=b,m in (1,2),z");
    assert_eq!(selector.requirements().len(), 3);
    assert_eq!(selector.required_value("a"), Some("b"));
    assert_eq!(selector.required_value("m"), None);
    assert_eq!(selector.required_value("q"), None);
    let both = LabelSelector::parse("x").unwrap().and(&selector);
    assert_eq!(both.to_string(), "a=b,m in (1,2),x,z");
}

fn word() -> impl Strategy<Value = String> {
    "[A-Za-z0-9]([-A-Za-z0-9_.]{0,5}[A-Za-z0-9])?"
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let values = || prop::collection::vec(prop_oneof![word(), Just(String::new())], 1..4);
    let operator = prop_oneof![
        values().prop_map(Operator::In),
        values().prop_map(Operator::NotIn),
        Just(Operator::Exists),
        Just(Operator::DoesNotExist),
        (0..i64::MAX).prop_map(Operator::GreaterThan),
        (0..i64::MAX).prop_map(Operator::LessThan),
    ];
    (word(), operator).prop_map(|(key, operator)| Requirement { key, operator })
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(list in prop::collection::vec(requirement(), 0..5)) {
        let selector: LabelSelector = list.into_iter().collect();
        prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
    }

    #[test]
    fn no_text_makes_the_parsers_panic(text in "[a-c=!()<>, \\\\\\PC]{0,40}") {
        let _ = LabelSelector::parse(&text);
        let _ = FieldSelector::parse(&text);
    }

    #[test]
    fn any_field_value_survives_its_escapes(path in "[a-z.]{1,8}", value in "\\PC*", equal: bool) {
        let selector: FieldSelector = [FieldTerm { path, value, equal }].into_iter().collect();
        prop_assert_eq!(FieldSelector::parse(&selector.to_string()).unwrap(), selector);
    }
}

#[rstest]
#[case("", "")]
#[case("metadata.name=web", "metadata.name=web")]
#[case("metadata.name==web", "metadata.name=web")]
#[case("a!=b", "a!=b")]
#[case("b=2,a=1,,", "a=1,b=2")]
#[case("a=", "a=")]
#[case("==,a=1,!=", "a=1")]
#[case(r"a=x\,y\=z\\", r"a=x\,y\=z\\")]
#[case("a=b c", "a=b c")]
fn a_field_selector_prints_canonically(#[case] text: &str, #[case] canonical: &str) {
    assert_eq!(
        text.parse::<FieldSelector>().unwrap().to_string(),
        canonical
    );
}

#[rstest]
#[case("a", "invalid selector: 'a'; can't understand 'a'")]
#[case("a=b,c", "invalid selector: 'a=b,c'; can't understand 'c'")]
#[case("a=b=c", "unescaped character in value: =")]
#[case(r"a=\x", r"invalid escape sequence: \x")]
#[case(r"a=\", r"invalid escape sequence: \")]
fn an_unreadable_field_selector_is_refused(#[case] text: &str, #[case] part: &str) {
    let error = FieldSelector::parse(text).expect_err(text);
    assert_eq!(error.code, 400);
    assert!(error.message.contains(part), "{}", error.message);
}

#[test]
fn fields_are_matched_and_absent_ones_count_as_empty() {
    let field = |path: &str| {
        if path == "status.phase" {
            "Running"
        } else {
            ""
        }
        .to_owned()
    };
    let matches = |text: &str| FieldSelector::parse(text).unwrap().matches(field);
    assert!(matches(""));
    assert!(matches("status.phase=Running,spec.nodeName="));
    assert!(!matches("status.phase!=Running"));
    assert!(!matches("spec.nodeName!="));
}

#[test]
fn only_offered_fields_are_accepted() {
    let offered = ["status.phase".to_owned()];
    let check = |text: &str| {
        FieldSelector::parse(text)
            .unwrap()
            .check_supported(&offered)
    };
    assert!(check("metadata.name=a,metadata.namespace=b,status.phase!=c").is_ok());
    let error = check("spec.x=1").expect_err("not offered");
    assert_eq!(
        (error.code, &*error.message),
        (400, "field label not supported: spec.x")
    );
    assert!(check("=1").is_err());
}

#[test]
fn the_name_that_a_field_selector_requires_is_found() {
    let name = |text: &str| {
        FieldSelector::parse(text)
            .unwrap()
            .required_name()
            .map(str::to_owned)
    };
    assert_eq!(name("metadata.name=web").as_deref(), Some("web"));
    assert_eq!(name("metadata.name!=web"), None);
    assert_eq!(name(""), None);
    assert!(FieldSelector::default().is_everything());
    assert_eq!(
        FieldSelector::name("a,b").to_string(),
        r"metadata.name=a\,b"
    );
    assert_eq!(FieldSelector::name("a").terms().len(), 1);
}
