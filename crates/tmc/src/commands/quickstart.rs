//! `tmc quickstart`: a hub, clusters and two Deployments, from nothing.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::user::{GROUP_MASTERS, UserInfo};
use tmc_hub::environment::SystemEnvironment;
use tmc_sim::{Behaviour, Member};

use crate::assembly::authority::Authority;
use crate::assembly::data_dir::DataDir;
use crate::assembly::embedded::{self, Embedded, EmbeddedOptions};
use crate::assembly::members::Members;
use crate::cli::{BindComputeArgs, QuickstartArgs, Role, StoreKind, default_sync_resources};
use crate::commands::cluster::{Registration, register};
use crate::commands::start::StopSignal;
use crate::commands::workspace::{Grantee, create, give};
use crate::commands::{bind, start};
use crate::context::{Context, ensure};
use crate::{kubeconfig, output};

/// How long `--once` waits for the samples.
const PATIENCE: Duration = Duration::from_secs(60);
const COMPUTE: &str = "root:compute";
const DEMO: &str = "root:demo";
const SAMPLE: &str = "web";
/// How often the samples are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs it. With `--once` the exit code tells whether every sample became available.
///
/// # Errors
/// A sentence naming the step that failed.
pub async fn run(args: &QuickstartArgs) -> Result<ExitCode> {
    let started = Instant::now();
    let mut signals = StopSignal::listen()?;
    let place = Place::choose(args.data_dir.as_deref())?;
    let shown = tokio::select! {
        shown = show(args, place.path(), started) => Some(shown),
        () = signals.received() => None,
    };
    let outcome = match shown {
        None if args.once => Err(anyhow!("stopped before every sample was available")),
        None => {
            eprintln!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        Some(Ok(demo)) if args.once => demo.end().await,
        Some(Ok(demo)) => {
            println!("{}", next_steps(&demo.kubeconfig, &demo.clusters));
            signals.received().await;
            eprintln!("stopping");
            demo.end().await.map(|_| ExitCode::SUCCESS)
        }
        Some(Err(error)) => Err(error),
    };
    drop(place);
    outcome
}

/// The running demonstration.
struct Demo {
    hub: Embedded,
    /// Simulated clusters; they end when dropped.
    simulated: Vec<Member>,
    clusters: Vec<String>,
    kubeconfig: PathBuf,
    available: bool,
    /// Ours alone until the hub has stopped.
    directory: DataDir,
}

impl Demo {
    /// Ends it; says whether every sample became available.
    async fn end(self) -> Result<ExitCode> {
        self.hub.stop().await?;
        drop(self.simulated);
        drop(self.directory);
        Ok(if self.available {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// Where the data is: a directory of the user's, or one that goes with this process.
enum Place {
    Given(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Place {
    fn choose(given: Option<&Path>) -> Result<Self> {
        match given {
            Some(path) => Ok(Self::Given(path.to_owned())),
            None => Ok(Self::Temporary(
                tempfile::Builder::new()
                    .prefix("tmc-quickstart-")
                    .tempdir()
                    .context("cannot make a temporary directory")?,
            )),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }
}

/// Says what happens, with the time since the start: lines on a pipe, colours nowhere.
struct Progress {
    started: Instant,
    bar: Option<indicatif::ProgressBar>,
}

impl Progress {
    fn new(started: Instant) -> Self {
        let live = std::io::stderr().is_terminal();
        let bar = live.then(|| {
            let bar = indicatif::ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { started, bar }
    }

    fn done(&self, step: &str, detail: &str) {
        let line = format!(
            "{:>7.2} s  {step:<9} {detail}",
            self.started.elapsed().as_secs_f64()
        );
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    fn doing(&self, what: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(what);
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Brings everything up and shows what happens until the samples are available.
async fn show(args: &QuickstartArgs, path: &Path, started: Instant) -> Result<Demo> {
    let progress = Progress::new(started);
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = embedded::bind(args.listen.unwrap_or(free)).await?;
    let directory = DataDir::open(path)?;
    let authority = Authority::load_or_make(path)?;
    let members = Arc::new(Members::default());
    let embedded = Embedded::start(EmbeddedOptions {
        engine: start::engine(StoreKind::Redb, &directory)?,
        authority: authority.clone(),
        listener,
        external_url: None,
        sync_resources: default_sync_resources(),
        members: members.clone(),
    })
    .await?;
    let file = directory.file("admin.kubeconfig");
    kubeconfig::write_private(&file, &demo_kubeconfig(&embedded, &authority)?)?;
    progress.done("hub", &format!("ready at {}", embedded.url()));

    let (kubeconfigs, running) = clusters(args, &members, &authority).await?;
    let admin = UserInfo::new("system:admin", &[GROUP_MASTERS]);
    let context = |workspace: &str| Context {
        connection: embedded.connection_as(admin.clone()),
        file: file.clone(),
        workspace: workspace.to_owned(),
        workspaces: true,
    };
    let names = register_all(&progress, &context(COMPUTE), &kubeconfigs).await?;
    create(&context("root"), "demo", false).await?;
    give(
        &context(COMPUTE),
        COMPUTE,
        &Grantee::Workspace(DEMO.into()),
        Role::Use,
    )
    .await?;
    let demo = context(DEMO);
    for name in &names {
        deploy(&progress, &demo, name).await?;
    }
    let available = follow(&progress, &demo, &names).await?;
    progress.finish();
    println!("{}", summary(&demo, &names).await?);
    Ok(Demo {
        hub: embedded,
        simulated: running,
        clusters: names,
        kubeconfig: file,
        available,
        directory,
    })
}

/// Kubeconfigs of the clusters to register: the given ones, or those of simulated members, which
/// live as long as what comes back with them.
async fn clusters(
    args: &QuickstartArgs,
    members: &Members,
    authority: &Authority,
) -> Result<(Vec<String>, Vec<Member>)> {
    let mut kubeconfigs = Vec::new();
    for file in &args.member_kubeconfig {
        kubeconfigs.push(
            std::fs::read_to_string(file)
                .with_context(|| format!("cannot read --member-kubeconfig {}", file.display()))?,
        );
    }
    let mut running = Vec::new();
    if kubeconfigs.is_empty() {
        for number in 1..=args.clusters {
            let member = Member::start(Arc::new(SystemEnvironment), Behaviour::default()).await?;
            let connection = member.connection().clone();
            kubeconfigs.push(members.add(&format!("cluster-{number}"), connection, authority));
            running.push(member);
        }
    }
    Ok((kubeconfigs, running))
}

async fn register_all(
    progress: &Progress,
    compute: &Context,
    kubeconfigs: &[String],
) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (index, kubeconfig) in kubeconfigs.iter().enumerate() {
        let name = format!("cluster-{}", index + 1);
        progress.doing(format!("registering {name}"));
        let registration = Registration {
            name: &name,
            kubeconfig,
            location: Some(&name),
            labels: json!({}),
        };
        let said = register(compute, &registration).await?;
        progress.done("register", &said);
        names.push(name);
    }
    Ok(names)
}

/// The namespace of a cluster's sample.
fn namespace_of(cluster: &str) -> String {
    format!("on-{cluster}")
}

/// One namespace, one Placement that selects it and the cluster's Location, one Deployment.
async fn deploy(progress: &Progress, demo: &Context, cluster: &str) -> Result<()> {
    let namespace = namespace_of(cluster);
    let labels = json!({"demo": cluster});
    let object = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": namespace, "labels": labels}});
    ensure(&demo.resource("", "v1", "namespaces"), "", &object).await?;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": SAMPLE, "namespace": namespace},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": SAMPLE}},
            "template": {
                "metadata": {"labels": {"app": SAMPLE}},
                "spec": {"containers": [{"name": SAMPLE, "image": "nginx:1.29"}]},
            },
        },
    });
    ensure(
        &demo.resource("apps", "v1", "deployments"),
        &namespace,
        &deployment,
    )
    .await?;
    let placed = bind::compute(
        demo,
        &BindComputeArgs {
            provider: Some(COMPUTE.into()),
            namespace_selector: format!("demo={cluster}"),
            location_selectors: vec![format!("location={cluster}")],
            name: Some(cluster.to_owned()),
            timeout: 30,
        },
    )
    .await?;
    progress.done("place", &placed);
    Ok(())
}

/// What has happened to a sample so far.
#[derive(Default)]
struct Seen {
    synced: bool,
    ready: bool,
}

/// Watches the samples until all are available or patience ends.
async fn follow(progress: &Progress, demo: &Context, names: &[String]) -> Result<bool> {
    let deployments = demo.resource("apps", "v1", "deployments");
    let mut seen: BTreeMap<&str, Seen> = names
        .iter()
        .map(|n| (n.as_str(), Seen::default()))
        .collect();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        for (name, seen) in &mut seen {
            let namespace = namespace_of(name);
            let object = deployments.get(&namespace, SAMPLE).await?;
            let held = meta(&object)
                .finalizers()
                .iter()
                .any(|f| f.starts_with("workload.kcp.io/syncer-"));
            if held && !seen.synced {
                seen.synced = true;
                progress.done(
                    "sync",
                    &format!("deployment {namespace}/{SAMPLE} is in {name}"),
                );
            }
            if output::condition(&object, "Available") == "True" && !seen.ready {
                seen.ready = true;
                let replicas = object
                    .pointer("/status/readyReplicas")
                    .and_then(Value::as_i64);
                let replicas = replicas.unwrap_or(0);
                progress.done(
                    "ready",
                    &format!("deployment {namespace}/{SAMPLE} is available, {replicas} replicas"),
                );
            }
        }
        if seen.values().all(|s| s.ready) {
            return Ok(true);
        }
        let waiting = seen.iter().filter(|(_, s)| !s.ready).map(|(name, _)| *name);
        progress.doing(format!(
            "waiting for {}",
            waiting.collect::<Vec<_>>().join(", ")
        ));
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(false)
}

async fn summary(demo: &Context, names: &[String]) -> Result<String> {
    let deployments = demo.resource("apps", "v1", "deployments");
    let mut rows = Vec::new();
    for name in names {
        let namespace = namespace_of(name);
        let object = deployments.get(&namespace, SAMPLE).await?;
        let ready = object
            .pointer("/status/readyReplicas")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        let wanted = object
            .pointer("/spec/replicas")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        rows.push(vec![
            namespace,
            SAMPLE.to_owned(),
            name.clone(),
            format!("{ready}/{wanted}"),
            output::condition(&object, "Available").to_owned(),
        ]);
    }
    Ok(output::table(
        &["NAMESPACE", "DEPLOYMENT", "CLUSTER", "READY", "AVAILABLE"],
        &rows,
    ))
}

fn next_steps(file: &Path, names: &[String]) -> String {
    let namespace = names
        .first()
        .map(|name| namespace_of(name))
        .unwrap_or_default();
    format!(
        "\nTry next, in another terminal:\n  \
         export KUBECONFIG={}\n  \
         kubectl get deployments --all-namespaces\n  \
         kubectl -n {namespace} scale deployment {SAMPLE} --replicas=5\n  \
         kubectl get deployments --all-namespaces --watch\n\
         Ctrl-C ends the hub.",
        file.display()
    )
}

/// The administrator's kubeconfig, entered into the demo workspace.
fn demo_kubeconfig(embedded: &Embedded, authority: &Authority) -> Result<String> {
    let text = embedded.admin_kubeconfig()?;
    let mut document: Value = serde_saphyr::from_str(&text).context("an unreadable kubeconfig")?;
    let root = kubeconfig::context(&document, "root").context("a kubeconfig without context")?;
    let demo = kubeconfig::hub_cluster(embedded.url(), DEMO, authority.certificate());
    kubeconfig::set_context(&mut document, "workspace.kcp.io/current", &root, &demo);
    serde_saphyr::to_string(&document).context("cannot be written as YAML")
}
