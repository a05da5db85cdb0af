use bytes::Bytes;

use super::*;

fn state() -> State<()> {
    State::restore(
        Loaded::default(),
        |_, _| (),
        Duration::ZERO,
        &Options::default(),
    )
}

fn put(state: &mut State<()>, key: &str) -> Aftermath<()> {
    let revision = state.revision() + 1;
    let previous = state.get(key).cloned();
    let entry = Entry {
        key: key.into(),
        value: Bytes::new(),
        meta: (),
        created: revision,
        revision,
    };
    let event = Event {
        revision,
        entry: Arc::new(entry),
        previous,
        deleted: false,
    };
    state.publish(
        &[Arc::new(event)],
        None,
        Duration::ZERO,
        &Options::default(),
    )
}

fn compact(state: &mut State<()>) {
    let options = Options::default();
    let now = Duration::from_secs(10_000);
    if let Some(plan) = state.log().plan(now, &options, usize::MAX) {
        drop(state.publish(&[], Some(plan), now, &options));
    }
}

#[test]
fn keys_and_prefixes_are_read_by_their_slashes() {
    let target = |prefix| match Target::of(prefix) {
        Target::Everything => (String::new(), String::new()),
        Target::Resource(resource) => (resource.into(), "*".to_owned()),
        Target::Cluster(resource, cluster) => (resource.into(), cluster.into()),
    };
    for (prefix, resource, cluster) in [
        ("", "", ""),
        ("apps", "", ""),
        ("apps/", "", ""),
        ("apps/deployments", "", ""),
        ("apps/deployments/", "apps/deployments/", "*"),
        ("apps/deployments/ro", "apps/deployments/", "*"),
        ("apps/deployments/root/", "apps/deployments/", "root"),
        ("apps/deployments/root/ns/", "apps/deployments/", "root"),
        ("apps/deployments/root//n", "apps/deployments/", "root"),
        ("apps/deployments//", "apps/deployments/", ""),
    ] {
        assert_eq!(
            target(prefix),
            (resource.to_owned(), cluster.to_owned()),
            "{prefix}"
        );
    }
    for (key, resource) in [
        ("", ""),
        ("k", "k"),
        ("a/b", "a/b"),
        ("a/b/", "a/b/"),
        ("a/b/c/d/e", "a/b/"),
        ("ä/ö/ü", "ä/ö/"),
    ] {
        assert_eq!(resource_of(key), resource);
    }
}

#[test]
fn a_long_search_is_done_in_pieces_that_lose_nothing() {
    let mut state = state();
    put(&mut state, "a/b/mine/ns/first");
    for n in 0..3000 {
        put(&mut state, &format!("a/b/theirs/ns/{n}"));
    }
    put(&mut state, "a/b/mine/ns/last");
    let target = Target::of("a/b/mine/");
    let _bell = state.enter(&target);
    let (mut cursor, mut pieces, mut found) = (0, 0, Vec::new());
    loop {
        let piece = state.events(&target, "a/b/mine/", cursor, 32).unwrap();
        assert!(piece.caught_up || piece.cursor <= cursor + SCAN as u64);
        cursor = piece.cursor;
        pieces += 1;
        found.extend(piece.events.iter().map(|event| event.revision));
        if piece.caught_up {
            break;
        }
        let progress = state.progress(&target, cursor);
        assert_eq!(progress, cursor, "what was not searched is not passed");
    }
    assert_eq!((found, pieces, cursor), (vec![1, 3002], 3, 3002));
}

#[test]
fn a_shard_that_is_followed_needs_no_search() {
    let mut state = state();
    let target = Target::of("a/b/mine/");
    let _bell = state.enter(&target);
    let mut cursor = 0;
    for round in 1..=5 {
        for n in 0..3000 {
            put(&mut state, &format!("a/b/theirs/ns/{round}-{n}"));
        }
        put(&mut state, &format!("a/b/mine/ns/{round}"));
        put(&mut state, "a/b/theirs/ns/x");
        let piece = state.events(&target, "a/b/mine/", cursor, 32).unwrap();
        assert_eq!((piece.events.len(), piece.caught_up), (1, true));
        assert_eq!(piece.cursor, state.revision());
        cursor = piece.cursor;
    }
}

#[test]
fn a_shard_remembers_little_and_searches_when_that_is_not_enough() {
    let mut state = state();
    let target = Target::of("a/b/mine/");
    let _bell = state.enter(&target);
    for n in 0..100 {
        put(
            &mut state,
            &format!("a/b/{}/ns/{n}", ["mine", "theirs"][n % 2]),
        );
    }
    let resource = &state.resources["a/b/"];
    assert_eq!(resource.clusters["mine"].recent.len(), RECENT);
    for cursor in [0, 50, 66, 67, 68, 90] {
        let found = state
            .events(&target, "a/b/mine/", cursor, 100)
            .unwrap()
            .events;
        let found: Vec<_> = found.iter().map(|event| event.revision).collect();
        let expected: Vec<_> = (cursor + 1..=100).filter(|n| n % 2 == 1).collect();
        assert_eq!(found, expected, "after {cursor}");
    }
}

#[test]
fn nothing_is_left_of_a_resource_that_nobody_uses() {
    let mut state = state();
    let targets = ["a/b/", "a/b/root/", "c/d/root/", ""].map(Target::of);
    let bells: Vec<_> = targets.iter().map(|target| state.enter(target)).collect();
    assert_eq!(state.watchers(), 4);
    put(&mut state, "e/f/root/ns/n");
    let entry = state.get("e/f/root/ns/n").unwrap().clone();
    let gone = Event {
        revision: 2,
        entry: entry.clone(),
        previous: Some(entry),
        deleted: true,
    };
    state.publish(&[Arc::new(gone)], None, Duration::ZERO, &Options::default());
    assert_eq!((state.live(), state.resources.len()), (0, 3));
    compact(&mut state);
    assert_eq!((state.floor(), state.resources.len()), (2, 2));
    for target in &targets {
        state.leave(target);
    }
    drop(bells);
    assert_eq!((state.watchers(), state.resources.len()), (0, 0));
}

#[test]
fn each_bell_rings_once_a_batch_and_only_where_somebody_waits() {
    let mut state = state();
    let _waiting = ["a/b/", "a/b/one/", "a/b/two/"].map(|prefix| state.enter(&Target::of(prefix)));
    assert_eq!(put(&mut state, "a/b/one/ns/n").bells.len(), 2);
    assert_eq!(put(&mut state, "a/b/three/ns/n").bells.len(), 1);
    assert_eq!(put(&mut state, "c/d/one/ns/n").bells.len(), 0);
    let events: Vec<_> = (1..=40)
        .map(|n| {
            let revision = state.revision() + n;
            let key = format!("a/b/{}/ns/{n}", ["one", "two"][n as usize % 2]).into();
            let entry = Entry {
                key,
                value: Bytes::new(),
                meta: (),
                created: revision,
                revision,
            };
            Arc::new(Event {
                revision,
                entry: Arc::new(entry),
                previous: None,
                deleted: false,
            })
        })
        .collect();
    let aftermath = state.publish(&events, None, Duration::ZERO, &Options::default());
    assert_eq!(aftermath.bells.len(), 3);
}
