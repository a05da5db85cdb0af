//! The command line: names, flags and help. What commands do is in [`crate::commands`].

#![allow(missing_docs)] // the help texts are the documentation

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{EnumValueParser, PathBufValueParser, TypedValueParser as _};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

/// Transparent multi-cluster control plane: plain kubectl in front of many clusters.
#[derive(Debug, Parser)]
#[command(name = "tmc", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads a command line; ends the program with 2 and a hint if it is none of ours. Called as
    /// `kubectl-tmc` it names itself as kubectl's users call it.
    pub fn from_command_line(arguments: impl Iterator<Item = std::ffi::OsString>) -> Self {
        let arguments: Vec<_> = arguments.collect();
        let mut command = Self::command();
        let program = arguments.first().map(PathBuf::from).unwrap_or_default();
        if program
            .file_stem()
            .is_some_and(|stem| stem == "kubectl-tmc")
        {
            command = command.bin_name("kubectl tmc");
        }
        let matches = command.get_matches_from(arguments);
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// Container image of this release.
pub const DEFAULT_IMAGE: &str = concat!("ghcr.io/tmc/tmc:v", env!("CARGO_PKG_VERSION"));

/// Flags of every command that talks to a hub.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Kubeconfig of the hub [default: $KUBECONFIG, else .tmc/admin.kubeconfig, else ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Workspace to act in, absolute (root:team) or relative [default: that of the kubeconfig]
    #[arg(long, global = true, value_name = "PATH")]
    pub workspace: Option<String>,
    /// Output format
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "table",
        value_parser = EnumValueParser::<Format>::new().map(Output::Format)
    )]
    pub output: Output,
}

impl Global {
    /// The format asked for; a table where `-o` names a file.
    pub fn format(&self) -> Format {
        match self.output {
            Output::Format(format) => format,
            Output::File(_) => Format::Table,
        }
    }
}

/// A command line that is well formed and still makes no sense: the program ends with 2.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// What `-o` says: a format, or for `tmc sync` a file (one type, so that the flag keeps one name).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// How results are printed.
    Format(Format),
    /// Where the result is written; `-` is standard output.
    File(PathBuf),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people
    Table,
    /// The objects as JSON
    Json,
    /// The objects as YAML
    Yaml,
    /// kind/name, a line each
    Name,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a hub with simulated clusters and show Deployments placed, synced and ready
    Quickstart(QuickstartArgs),
    /// Start the embedded hub with its controllers
    Start(StartArgs),
    /// Run controllers and virtual workspaces beside a hub that is another API server
    Controllers(ControllersArgs),
    /// Run the agent of one SyncTarget
    Syncer(SyncerArgs),
    /// Register and list member clusters
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Create, enter, show and share workspaces
    #[command(subcommand, visible_alias = "ws")]
    Workspace(WorkspaceCommand),
    /// Bind this workspace to something that another provides
    #[command(subcommand)]
    Bind(BindCommand),
    /// Show targets and placements
    #[command(subcommand)]
    Get(GetCommand),
    /// Print the agent of an External SyncTarget as YAML for the member cluster
    Sync(SyncArgs),
    /// Place no new workload on a cluster; what runs there stays
    Cordon(MemberArgs),
    /// Place workload on a cluster again, and end its draining
    Uncordon(MemberArgs),
    /// Move workload off a cluster to others that can take it, and wait until the cluster is empty
    Drain(DrainArgs),
    /// Say step by step why an object runs where it does, or why it does not
    Explain(ExplainArgs),
    /// Look for whatever is wrong with hub, clusters and placements; exit 1 if anything is
    Doctor,
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub struct MemberArgs {
    /// Name of the Cluster or of its SyncTarget
    pub name: String,
}

#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Name of the Cluster or of its SyncTarget
    pub name: String,
    /// Wait for nothing: workload that no other cluster can take stops
    #[arg(long)]
    pub force: bool,
    /// Seconds to wait until nothing is left; 0 does not wait
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub timeout: u64,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The object, as KIND/NAME: deployment/web, deploy/web, deployments.apps/web
    #[arg(value_name = "KIND/NAME")]
    pub object: String,
    /// Its namespace [default: that of the kubeconfig's context, else default]
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
}

#[derive(Debug, Args)]
pub struct SyncArgs {
    /// Name of the SyncTarget
    pub name: String,
    /// Container image of the syncer, unless the SyncTarget names one; none is published yet
    #[arg(long, default_value = DEFAULT_IMAGE, value_name = "IMAGE")]
    pub image: String,
    /// Certificate authority of the URL that the syncer uses, PEM [default: that of the kubeconfig; of a
    /// hub without workspaces the one that `tmc controllers` publishes]
    #[arg(long, value_name = "FILE")]
    pub hub_ca: Option<PathBuf>,
    /// Write the YAML to this file, - for standard output
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "-",
        value_parser = PathBufValueParser::new().map(Output::File)
    )]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct QuickstartArgs {
    /// Number of simulated clusters
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub clusters: u8,
    /// Use the cluster of this kubeconfig instead of simulated ones (repeatable)
    #[arg(long, value_name = "FILE")]
    pub member_kubeconfig: Vec<PathBuf>,
    /// Exit when every sample is available (0) or has failed to become so (1)
    #[arg(long)]
    pub once: bool,
    /// Keep data here [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1 and a free port]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub struct StartArgs {
    /// Where data, certificates and admin.kubeconfig are kept
    #[arg(long, default_value = ".tmc", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:6443", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// URL under which clients and syncers reach this hub [default: https:// and the address of
    /// --listen, unless that is all addresses]
    #[arg(long, value_name = "URL")]
    pub external_url: Option<String>,
    /// Storage engine
    #[arg(long, value_enum, default_value_t = StoreKind::Redb)]
    pub store: StoreKind,
    /// Resources that targets sync, beside namespaces, configmaps, secrets and serviceaccounts
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = default_sync_resources())]
    pub sync_resources: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ControllersArgs {
    /// Kubeconfig of the hub, of an administrator
    #[arg(long, value_name = "FILE")]
    pub hub_kubeconfig: PathBuf,
    /// What kind of hub it is
    #[arg(long, value_enum, value_name = "KIND")]
    pub hub: HubKind,
    /// Install or upgrade the CustomResourceDefinitions of SyncTargets, Clusters, Locations and Placements
    #[arg(long)]
    pub install_crds: bool,
    /// Serve virtual workspaces at this address
    #[arg(long, value_name = "ADDR")]
    pub serve_virtual_workspaces: Option<SocketAddr>,
    /// URL under which agents reach the virtual workspaces [default: https:// and that address]
    #[arg(long, value_name = "URL")]
    pub virtual_workspace_url: Option<String>,
    /// Certificate (with chain) to serve with [default: one of an authority kept on the hub]
    #[arg(long, value_name = "FILE", requires_all = ["tls_private_key_file", "tls_ca_file"])]
    pub tls_cert_file: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,
    /// The authority by which agents check it
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub tls_ca_file: Option<PathBuf>,
    /// Resources that targets sync, beside namespaces, configmaps, secrets and serviceaccounts
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = default_sync_resources())]
    pub sync_resources: Vec<String>,
}

/// Kinds of hubs that are other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HubKind {
    /// kcp
    Kcp,
    /// A Kubernetes API server: one workspace, `root`
    Kubernetes,
}

/// Resources synced unless `--sync-resources` says otherwise.
pub fn default_sync_resources() -> Vec<String> {
    [
        "deployments.apps",
        "statefulsets.apps",
        "daemonsets.apps",
        "jobs.batch",
        "cronjobs.batch",
        "services",
        "ingresses.networking.k8s.io",
        "persistentvolumeclaims",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Where objects are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    /// A file in the data directory
    Redb,
    /// Nowhere: everything is gone when the hub stops
    Memory,
}

#[derive(Debug, Args)]
pub struct SyncerArgs {
    /// Kubeconfig of the hub, of an identity that may get and sync the SyncTarget
    #[arg(long, value_name = "FILE")]
    pub from_kubeconfig: PathBuf,
    /// Context in it [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub from_context: Option<String>,
    /// Kubeconfig of the member cluster
    #[arg(long, value_name = "FILE")]
    pub to_kubeconfig: PathBuf,
    /// Context in it [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub to_context: Option<String>,
    /// Name of the SyncTarget, in the workspace of the hub's kubeconfig
    #[arg(long, value_name = "NAME")]
    pub sync_target_name: String,
    /// Uid of the SyncTarget: one that was made again is another one
    #[arg(long, value_name = "UID")]
    pub sync_target_uid: String,
    /// How this replica calls itself [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub identity: Option<String>,
    /// Namespace of the member with the Lease of this syncer's replicas: its holder syncs, the others
    /// stand by [default: no Lease, and it must be the only one]
    #[arg(long, value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Secret of the member that holds the hub's kubeconfig: a renewed token is put there
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = namespaced)]
    pub keep_token_in: Option<(String, String)>,
    /// Objects worked on at once
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: u16,
    /// How long an unused namespace of the member stays, in seconds
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub downstream_namespace_clean_delay: u64,
}

/// `namespace/name`.
fn namespaced(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name))
            if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
        {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("write NAMESPACE/NAME".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Register a cluster by its kubeconfig
    Register(RegisterArgs),
    /// List registered clusters
    List,
    /// Show all that is known of a cluster
    Describe(MemberArgs),
    /// Remove a cluster: workload that another cluster can take moves, the rest stops; then its syncer
    /// goes, then its credential
    Unregister(UnregisterArgs),
}

/// Who runs the syncer of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum Mode {
    /// The hub, as a task of its own
    #[default]
    Hosted,
    /// The member, in a Deployment that the hub installs
    Deployment,
    /// The member's owner, from the YAML that `tmc sync` prints; the hub gets no credential
    External,
}

#[derive(Debug, Args)]
pub struct UnregisterArgs {
    /// Name of the Cluster or of its SyncTarget
    pub name: String,
    /// Complete it although the cluster is gone for good
    #[arg(long)]
    pub force: bool,
    /// Leave the copies in the cluster running
    #[arg(long)]
    pub keep_workloads: bool,
    /// Seconds to wait until it is gone; 0 does not wait
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub timeout: u64,
}

#[derive(Debug, Args)]
pub struct RegisterArgs {
    /// Name of the Cluster
    pub name: String,
    /// Kubeconfig of the member cluster; not for --mode External
    #[arg(long, value_name = "FILE", required_unless_present_any = ["mode"])]
    pub member_kubeconfig: Option<PathBuf>,
    /// Context in it [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Who runs the syncer [default: Hosted]
    #[arg(long, value_enum, ignore_case = true)]
    pub mode: Option<Mode>,
    /// Upload the kubeconfig as it is (inline certificates or token only)
    #[arg(long)]
    pub raw: bool,
    /// Make the cluster part of this Location (made if absent)
    #[arg(long, value_name = "NAME")]
    pub location: Option<String>,
    /// Labels of the SyncTarget
    #[arg(long, value_name = "K=V,…", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// Container image of the syncer, with --mode Deployment [default: that of this release, of which
    /// none is published yet]
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum WorkspaceCommand {
    /// Create a workspace in the current one
    Create {
        /// Its name
        name: String,
        /// Enter it
        #[arg(long)]
        enter: bool,
    },
    /// Enter a workspace: a path, a child's name, `..`, `-` (previous) or `.`
    Use {
        /// Where to
        path: String,
    },
    /// Show the tree of workspaces below the current one
    Tree,
    /// List the workspaces in the current one
    List,
    /// Give a user, group or workspace a role in a workspace; --workspace says to whom, not where
    Grant(GrantArgs),
    /// Print a kubeconfig for a user of a workspace, with a new client certificate
    Kubeconfig {
        /// The workspace
        path: String,
        /// The user's name
        #[arg(long, value_name = "NAME")]
        user: String,
        /// Groups of the user
        #[arg(long, value_name = "NAME")]
        group: Vec<String>,
        /// How long the certificate is valid (10m to 8760h)
        #[arg(long, default_value = "24h", value_name = "DURATION")]
        ttl: String,
    },
}

#[derive(Debug, Args)]
pub struct GrantArgs {
    /// Where: the workspace, absolute or relative to that of the kubeconfig
    pub path: String,
    /// To a user
    #[arg(long, value_name = "NAME", conflicts_with_all = ["group", "workspace"])]
    pub user: Option<String>,
    /// To a group
    #[arg(long, value_name = "NAME", conflicts_with = "workspace")]
    pub group: Option<String>,
    /// To whoever may write Placements in this workspace (only the role use)
    // In place of the global flag, which has another meaning everywhere else.
    #[arg(long, value_name = "PATH")]
    pub workspace: Option<String>,
    /// The role
    #[arg(long, value_enum)]
    pub role: Role,
}

/// Roles that can be granted in a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Everything in the workspace
    Admin,
    /// Read and write applications
    Edit,
    /// Read applications
    View,
    /// Place workload on the workspace's Locations
    Use,
}

#[derive(Debug, Subcommand)]
pub enum BindCommand {
    /// Place the workload of this workspace on the clusters of a provider workspace
    Compute(BindComputeArgs),
}

#[derive(Debug, Args)]
pub struct BindComputeArgs {
    /// Workspace that has the clusters [default: this one if it has any, else root:compute]
    pub provider: Option<String>,
    /// Namespaces whose workload is placed [default: all]
    #[arg(long, value_name = "SELECTOR", default_value = "")]
    pub namespace_selector: String,
    /// Locations to choose from (repeatable, any matches) [default: all]
    #[arg(long, value_name = "SELECTOR")]
    pub location_selectors: Vec<String>,
    /// Name of the Placement [default: derived from the selectors]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Seconds to wait for a place
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub timeout: u64,
}

#[derive(Debug, Subcommand)]
pub enum GetCommand {
    /// The SyncTargets of the workspace
    #[command(alias = "target")]
    Targets,
    /// The Placements of the workspace
    #[command(alias = "placement")]
    Placements,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_grant_the_flag_workspace_names_the_grantee_and_its_help_says_so() {
        let line = "tmc workspace grant root:compute --workspace root:shop --role use";
        let cli = Cli::try_parse_from(line.split(' ')).expect("a command line");
        let Command::Workspace(WorkspaceCommand::Grant(args)) = &cli.command else {
            panic!("{cli:?}");
        };
        assert_eq!(args.workspace.as_deref(), Some("root:shop"));
        let both = format!("{line} --user ann");
        Cli::try_parse_from(both.split(' ')).expect_err("one of both");
        let help = Cli::try_parse_from(["tmc", "workspace", "grant", "--help"]);
        let help = help.expect_err("help").to_string();
        assert!(help.contains("To whoever may write Placements"), "{help}");
        assert!(!help.contains("Workspace to act in"), "{help}");
    }
}
