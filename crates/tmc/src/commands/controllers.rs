//! `tmc controllers`

use anyhow::{Result, anyhow, bail};
use tokio_util::sync::CancellationToken;

use super::start::{StopSignal, https_url};
use crate::assembly::embedded::bind;
use crate::assembly::kubernetes::serving::GivenCertificate;
use crate::assembly::kubernetes::{KubernetesOptions, Replica};
use crate::assembly::limits;
use crate::cli::{ControllersArgs, HubKind};
use crate::kubeconfig;

/// Longest part of a replica's name that comes from its host's.
const MAX_HOST: usize = 40;

/// Runs a replica until it is told to stop.
///
/// # Errors
/// One sentence for the person who started it.
pub async fn run(args: &ControllersArgs) -> Result<()> {
    if args.hub == HubKind::Kcp {
        bail!(
            "--hub kcp: the controllers do not run on kcp yet; use --hub kubernetes, or `tmc start` for a hub with workspaces"
        );
    }
    limits::raise_open_files();
    let mut signals = StopSignal::listen()?;
    let kubeconfig = kubeconfig::load("--hub-kubeconfig", &args.hub_kubeconfig)?;
    let url = view_url(args)?;
    let listener = match args.serve_virtual_workspaces {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let identity = identity(std::env::var("HOSTNAME").ok().as_deref());
    let replica = Replica::start(KubernetesOptions {
        kubeconfig,
        install_crds: args.install_crds,
        listener,
        url: url.clone(),
        certificate: certificate(args),
        sync_resources: args.sync_resources.clone(),
        identity: identity.clone(),
    })
    .await?;
    eprintln!("tmc controllers are ready as {identity}; virtual workspaces are at {url}");
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        signals.received().await;
        eprintln!("stopping");
        told.cancel();
    });
    replica.run(stop).await
}

/// The URL of the virtual workspaces: given, or the address they are served at.
fn view_url(args: &ControllersArgs) -> Result<String> {
    if let Some(url) = &args.virtual_workspace_url {
        return https_url("--virtual-workspace-url", url);
    }
    match args.serve_virtual_workspaces {
        Some(address) if !address.ip().is_unspecified() && address.port() != 0 => {
            Ok(format!("https://{address}"))
        }
        Some(_) => Err(anyhow!(
            "--serve-virtual-workspaces does not tell an address that agents can use: add --virtual-workspace-url https://host[:port]"
        )),
        None => Err(anyhow!(
            "agents need virtual workspaces: add --serve-virtual-workspaces ADDR, or name those of another replica with --virtual-workspace-url URL"
        )),
    }
}

fn certificate(args: &ControllersArgs) -> Option<GivenCertificate> {
    Some(GivenCertificate {
        certificate: args.tls_cert_file.clone()?,
        key: args.tls_private_key_file.clone()?,
        ca: args.tls_ca_file.clone()?,
    })
}

/// The replica's name: the host's, with a part that differs at each start, because nobody may come
/// back under a name that once led. A DNS label.
fn identity(host: Option<&str>) -> String {
    let fits = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let host: String = host
        .unwrap_or_default()
        .chars()
        .map(fits)
        .take(MAX_HOST)
        .collect();
    let host = host.trim_matches('-');
    let run = uuid::Uuid::new_v4().simple().to_string();
    let host = if host.is_empty() { "tmc" } else { host };
    format!("{host}-{}", &run[..8])
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(extra: &[&str]) -> ControllersArgs {
        let fixed = [
            "tmc",
            "controllers",
            "--hub-kubeconfig",
            "f",
            "--hub",
            "kubernetes",
        ];
        let cli = Cli::try_parse_from(fixed.iter().chain(extra)).expect("valid");
        match cli.command {
            Command::Controllers(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_url_is_the_one_given_or_the_address_if_others_can_use_it() {
        let url = |extra: &[&str]| view_url(&args(extra)).map_err(|error| error.to_string());
        let serve = "--serve-virtual-workspaces";
        assert_eq!(
            url(&[serve, "127.0.0.1:7000"]).as_deref(),
            Ok("https://127.0.0.1:7000")
        );
        assert_eq!(
            url(&["--virtual-workspace-url", "https://views:1/"]).as_deref(),
            Ok("https://views:1")
        );
        assert!(
            url(&[serve, "0.0.0.0:7000"])
                .unwrap_err()
                .contains("--virtual-workspace-url")
        );
        assert!(url(&[]).unwrap_err().contains(serve));
        assert!(
            url(&["--virtual-workspace-url", "http://views"])
                .unwrap_err()
                .contains("https://")
        );
    }

    #[test]
    fn a_replica_has_another_name_at_each_start_and_it_is_a_dns_label() {
        let name = identity(Some("Node_7.example.org"));
        assert!(name.starts_with("node-7-example-org-"), "{name}");
        assert_ne!(name, identity(Some("Node_7.example.org")));
        assert!(identity(Some("--")).starts_with("tmc-"));
        assert!(identity(Some(&"x".repeat(300))).len() <= 63);
    }

    #[test]
    fn certificate_key_and_authority_are_given_together() {
        let fixed = [
            "tmc",
            "controllers",
            "--hub-kubeconfig",
            "f",
            "--hub",
            "kubernetes",
        ];
        let alone = fixed.iter().chain(&["--tls-cert-file", "c"]);
        assert!(Cli::try_parse_from(alone).is_err());
        assert!(certificate(&args(&[])).is_none());
    }
}
