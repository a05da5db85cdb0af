//! `tmc start`

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tmc_store::engine::{Engine, Memory, Redb};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::assembly::authority::Authority;
use crate::assembly::data_dir::DataDir;
use crate::assembly::embedded::{self, Embedded, EmbeddedOptions};
use crate::assembly::limits;
use crate::assembly::members::Members;
use crate::cli::{StartArgs, StoreKind, Usage};
use crate::kubeconfig;

/// Runs the embedded hub until it is told to stop.
///
/// # Errors
/// One sentence for the person who started it; nothing was changed then.
pub async fn run(args: &StartArgs) -> Result<()> {
    let external_url = external_url(args)?;
    limits::raise_open_files();
    let mut signals = StopSignal::listen()?;
    let listener = embedded::bind(args.listen).await?;
    let directory = DataDir::open(&args.data_dir)?;
    let hub = Embedded::start(EmbeddedOptions {
        engine: engine(args.store, &directory)?,
        authority: Authority::load_or_make(&args.data_dir)?,
        listener,
        external_url,
        sync_resources: args.sync_resources.clone(),
        members: Arc::new(Members::default()),
    })
    .await?;
    let file = directory.file("admin.kubeconfig");
    let fresh = hub.admin_kubeconfig()?;
    let text = match kubeconfig::read(&file) {
        Ok(old) => kubeconfig::refresh(&old, &fresh)?,
        Err(_) => fresh,
    };
    kubeconfig::write_private(&file, &text)?;
    eprintln!("tmc hub is ready at {}", hub.url());
    eprintln!("  export KUBECONFIG={}", absolute(&file));
    eprintln!("  kubectl get workspaces");
    signals.received().await;
    eprintln!("stopping");
    hub.stop().await
}

/// The engine of a data directory.
///
/// # Errors
/// When the file there cannot be used.
pub fn engine(kind: StoreKind, directory: &DataDir) -> Result<Box<dyn Engine>> {
    Ok(match kind {
        StoreKind::Memory => Box::new(Memory::default()),
        StoreKind::Redb => Box::new(Redb::open(directory.file("hub.redb"))?),
    })
}

/// A URL that others can use, without a trailing slash; none where the address itself is one.
fn external_url(args: &StartArgs) -> Result<Option<String>> {
    if let Some(url) = &args.external_url {
        return https_url("--external-url", url).map(Some);
    }
    let address = args.listen;
    if address.ip().to_canonical().is_unspecified() {
        let port = match address.port() {
            0 => "PORT".to_owned(),
            port => port.to_string(),
        };
        let text = format!(
            "--listen {address} does not tell an address that others can use: add --external-url \
             https://NAME:{port}"
        );
        return Err(Usage(text).into());
    }
    Ok(None)
}

/// The URL of a flag, without a trailing slash.
///
/// # Errors
/// Naming the flag, unless it is an https URL with a host.
pub fn https_url(flag: &str, url: &str) -> Result<String> {
    let bad = || Usage(format!("{flag} {url}: write https://host[:port]"));
    let parsed: http::Uri = url.parse().map_err(|_| bad())?;
    if parsed.scheme_str() != Some("https") || parsed.authority().is_none() {
        return Err(bad().into());
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn absolute(file: &Path) -> String {
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    path.display().to_string()
}

/// Ctrl-C and SIGTERM, caught from the moment this is made.
pub struct StopSignal {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignal {
    /// Catches the signals from now on: make it before there is anything to clean up.
    ///
    /// # Errors
    /// When the system does not let signals be caught.
    pub fn listen() -> Result<Self> {
        let catch = |kind| signal(kind).context("cannot catch signals");
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
        })
    }

    /// Resolves when one has come.
    pub async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn url(extra: &[&str]) -> Result<Option<String>> {
        let line = ["tmc", "start"].iter().chain(extra);
        let cli = Cli::try_parse_from(line).expect("a command line");
        let Command::Start(args) = cli.command else {
            panic!("another command");
        };
        external_url(&args)
    }

    #[test]
    fn an_external_url_is_https_with_a_host() {
        let good = url(&["--external-url", "https://hub.example.org/"]).expect("good");
        assert_eq!(good.as_deref(), Some("https://hub.example.org"));
        for bad in ["http://hub", "hub.example.org", "https://"] {
            let error = url(&["--external-url", bad]).unwrap_err();
            assert!(error.is::<Usage>(), "{bad}: {error}");
        }
    }

    #[test]
    fn who_listens_on_all_addresses_names_the_one_to_use() {
        assert_eq!(url(&[]).expect("loopback"), None);
        assert_eq!(url(&["--listen", "10.0.0.1:6443"]).expect("one"), None);
        for all in ["0.0.0.0:6443", "[::]:6443", "[::ffff:0.0.0.0]:6443"] {
            let error = url(&["--listen", all]).unwrap_err();
            assert!(error.is::<Usage>(), "{all}: {error}");
            let remedy = "add --external-url https://NAME:6443";
            assert!(error.to_string().ends_with(remedy), "{error}");
        }
        let named = ["--external-url", "https://hub.example.org:6443"];
        url(&[&["--listen", "0.0.0.0:6443"], &named[..]].concat()).expect("named");
    }
}
