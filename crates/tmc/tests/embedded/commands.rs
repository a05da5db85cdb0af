use clap::Parser as _;
use tmc::cli::{Cli, Command};

use crate::support::World;

/// Runs a command line against the hub over TLS, as `main` does.
async fn run(world: &World, line: &str) -> Result<String, String> {
    let file = world.kubeconfig();
    let words = line.split_whitespace().map(str::to_owned);
    let global = [
        "tmc".to_owned(),
        "--kubeconfig".into(),
        file.display().to_string(),
    ];
    let cli = Cli::try_parse_from(global.into_iter().chain(words)).map_err(|e| e.to_string())?;
    let said = match &cli.command {
        Command::Workspace(command) => tmc::commands::workspace::run(&cli.global, command).await,
        Command::Cluster(command) => tmc::commands::cluster::run(&cli.global, command).await,
        Command::Bind(command) => tmc::commands::bind::run(&cli.global, command).await,
        Command::Get(command) => tmc::commands::get::run(&cli.global, command).await,
        _ => unreachable!("not a command of this test"),
    };
    said.map_err(|error| format!("{error:#}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workspaces_are_made_entered_left_and_shown() {
    let world = World::start().await;
    assert_eq!(
        run(&world, "workspace create team").await.unwrap(),
        "workspace root:team is ready"
    );
    run(&world, "workspace create team")
        .await
        .expect("again is no error");
    assert_eq!(
        run(&world, "workspace use team").await.unwrap(),
        "current workspace is root:team"
    );
    run(&world, "workspace create inner").await.unwrap();
    assert_eq!(
        run(&world, "workspace use ..").await.unwrap(),
        "current workspace is root"
    );
    assert_eq!(
        run(&world, "workspace use -").await.unwrap(),
        "current workspace is root:team"
    );
    run(&world, "workspace use :root").await.unwrap();
    let tree = run(&world, "workspace tree").await.unwrap();
    assert_eq!(tree, "root\n├── compute\n└── team\n    └── inner");
    let list = run(&world, "workspace list").await.unwrap();
    assert!(list.starts_with("NAME") && list.contains("team"), "{list}");
    let error = run(&world, "workspace use nowhere").await.unwrap_err();
    assert_eq!(
        error,
        "there is no workspace root:nowhere; see what there is: tmc --workspace root workspace tree"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_let_into_one_workspace_with_a_kubeconfig_of_its_own() {
    let world = World::start().await;
    run(&world, "workspace create team").await.unwrap();
    let said = run(&world, "workspace grant root:team --user ann --role edit")
        .await
        .unwrap();
    assert_eq!(said, "user ann has role edit in root:team");
    let text = run(&world, "workspace kubeconfig root:team --user ann")
        .await
        .unwrap();
    let file = world.directory.path().join("ann");
    tmc::kubeconfig::write_private(&file, &text).unwrap();
    let global = tmc::cli::Global {
        kubeconfig: Some(file),
        workspace: None,
        output: tmc::cli::Output::Format(tmc::cli::Format::Table),
    };
    let ann = tmc::context::Context::load(&global).unwrap();
    assert_eq!(ann.workspace, "root:team");
    ann.resource("", "v1", "configmaps")
        .list("", &Default::default())
        .await
        .unwrap();
    let elsewhere = ann.resource_in("root", "", "v1", "configmaps");
    assert_eq!(
        elsewhere
            .list("", &Default::default())
            .await
            .unwrap_err()
            .code(),
        Some(403)
    );
    let error = run(&world, "workspace kubeconfig root:team --user system:admin")
        .await
        .unwrap_err();
    assert!(error.contains("reserved"), "{error}");
    let error = run(&world, "workspace grant root:team --role edit")
        .await
        .unwrap_err();
    assert!(error.contains("--user"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_and_targets_are_listed_and_a_kubeconfig_that_is_not_there_is_named() {
    let world = World::start().await;
    let _member = world.member("one").await;
    let list = run(&world, "--workspace root:compute cluster list")
        .await
        .unwrap();
    assert!(list.contains("one"), "{list}");
    let targets = run(&world, "--workspace root:compute get targets")
        .await
        .unwrap();
    assert!(
        targets.starts_with("NAME") && targets.contains("Hosted"),
        "{targets}"
    );
    let names = run(&world, "--workspace root:compute get targets -o name")
        .await
        .unwrap();
    assert!(names.starts_with("synctarget/one-"), "{names}");
    for how in ["", "--raw"] {
        let line = format!("cluster register two {how} --member-kubeconfig /nowhere");
        let error = run(&world, &line).await.unwrap_err();
        assert!(error.contains("/nowhere"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_no_location_selects_is_registered_without_waiting_for_one() {
    let world = World::start().await;
    let one = serde_json::json!({
        "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Location",
        "metadata": {"name": "one"},
        "spec": {
            "resource": {"group": "workload.kcp.io", "version": "v1alpha1", "resource": "synctargets"},
            "instanceSelector": {"matchLabels": {"location": "one"}},
        },
    });
    let compute = world.context("root:compute");
    let locations = compute.resource("scheduling.kcp.io", "v1alpha1", "locations");
    locations.create("", &one).await.unwrap();
    let register = "--workspace root:compute cluster register edge --mode External";
    let started = std::time::Instant::now();
    let said = run(&world, register).await.unwrap();
    assert!(started.elapsed().as_secs() < 20, "it did not wait");
    assert!(
        said.contains("edge") && !said.contains("\nLocation"),
        "{said}"
    );
    let said = run(&world, &format!("{register} --location one"))
        .await
        .unwrap();
    assert!(said.contains("\nLocation"), "{said}");
    let about = run(&world, "--workspace root:compute cluster describe edge")
        .await
        .unwrap();
    let part = about.lines().find(|line| line.starts_with("Locations:"));
    assert!(part.is_some_and(|line| line.ends_with("one")), "{about}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_mode_of_a_registered_cluster_is_refused_before_its_kubeconfig_is_read() {
    let world = World::start().await;
    let _member = world.member("one").await;
    let register = "--workspace root:compute cluster register one";
    for other in [
        "--mode Deployment --member-kubeconfig /nowhere",
        "--mode Deployment --image r/tmc:1 --member-kubeconfig /nowhere",
        "--mode External",
    ] {
        let error = run(&world, &format!("{register} {other}"))
            .await
            .unwrap_err();
        let said = "cluster one is registered already in workspace root:compute, \
                    with the syncer's mode Hosted; to change it: kubectl patch synctarget one-";
        assert!(error.starts_with(said), "{error}");
    }
    let same = format!("{register} --mode Hosted --member-kubeconfig /nowhere");
    let error = run(&world, &same).await.unwrap_err();
    assert!(error.contains("cannot read"), "{error}");
    let image = format!("{register} --image r/tmc:1 --member-kubeconfig /nowhere");
    let error = run(&world, &image).await.unwrap_err();
    assert!(error.contains("needs --mode Deployment"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_of_a_second_registration_are_added_to_those_of_the_first() {
    let world = World::start().await;
    let register = "--workspace root:compute cluster register edge --mode External --labels";
    for labels in ["zone=eu,tier=gold", "zone=us"] {
        run(&world, &format!("{register} {labels}")).await.unwrap();
    }
    let compute = world.context("root:compute");
    let targets = compute.resource("workload.kcp.io", "v1alpha1", "synctargets");
    let target = targets.get("", "edge").await.unwrap();
    let labels = &target["metadata"]["labels"];
    assert_eq!(
        (&labels["zone"], &labels["tier"]),
        (&"us".into(), &"gold".into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_placement_of_the_name_that_selects_otherwise_is_not_taken_for_the_one_asked_for() {
    let world = World::start().await;
    let _member = world.member("one").await;
    let bind = "--workspace root:compute bind compute --name p --namespace-selector";
    for _ in 0..2 {
        let said = run(&world, &format!("{bind} team=a")).await.unwrap();
        assert!(said.starts_with("placement p is scheduled"), "{said}");
    }
    let error = run(&world, &format!("{bind} team=b")).await.unwrap_err();
    assert!(
        error.starts_with("placement p is in root:compute already"),
        "{error}"
    );
    assert!(error.contains("spec.namespaceSelector is {"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_nothing_has_leads_to_where_clusters_are() {
    let world = World::start().await;
    let describe = "cluster describe east";
    let error = run(&world, describe).await.unwrap_err();
    let there = "clusters are usually in root:compute: tmc --workspace root:compute get targets";
    assert!(error.ends_with(there), "{error}");
    let error = run(&world, &format!("--workspace root:compute {describe}"))
        .await
        .unwrap_err();
    let here = "see what it has: tmc --workspace root:compute get targets";
    assert!(error.ends_with(here), "{error}");
}
