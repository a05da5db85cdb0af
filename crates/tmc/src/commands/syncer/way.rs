//! The way to the hub: the one that was given, unless it leads to a hub whose views have an address of
//! their own.

use anyhow::{Result, anyhow};
use serde_json::Value;
use tmc_api::agent::kubeconfig::with_token;
use tmc_apimachinery::meta::meta;
use tmc_runtime::{Connection, Credential, Endpoint};

use super::{connect, endpoint, find_target};
use crate::cli::SyncerArgs;
use crate::commands::sync::{self, Access};
use crate::context::{Context, wait_for};
use crate::kubeconfig;

const FLAG: &str = "--from-kubeconfig";
/// How many seconds the rights of a new account may take to be known.
const PATIENCE: u64 = 10;

/// A way to the hub.
pub(super) struct Way {
    /// The kubeconfig that says it.
    pub(super) kubeconfig: Value,
    /// Context in it, unless it is the current one.
    pub(super) context: Option<String>,
    /// Where it leads, and as whom.
    pub(super) endpoint: Endpoint,
    /// Over it.
    pub(super) connection: Connection,
}

impl Way {
    /// The one of `--from-kubeconfig`.
    ///
    /// # Errors
    /// Naming the flag and what cannot be used.
    pub(super) fn given(args: &SyncerArgs) -> Result<Self> {
        let (file, context) = (&args.from_kubeconfig, args.from_context.as_deref());
        let endpoint = endpoint(FLAG, file, context)?;
        Ok(Self {
            kubeconfig: kubeconfig::read(file)?,
            context: context.map(str::to_owned),
            connection: connect(FLAG, &endpoint)?,
            endpoint,
        })
    }

    /// A way on which the SyncTarget's view is, too, and the SyncTarget as it is seen from there.
    ///
    /// A bare Kubernetes hub serves no views: they are behind another address, and let in nobody but
    /// accounts. There this way is only used to fetch the one of the agent's own account.
    ///
    /// # Errors
    /// When there is no such SyncTarget, or its agent has no account.
    pub(super) async fn leading_to_views(self, args: &SyncerArgs) -> Result<(Self, Value)> {
        let target = find_target(&self.connection, args).await?;
        if !meta(&target).cluster().is_empty() {
            return Ok((self, target));
        }
        let own = Self::of_account(&self.access(args).await?)?;
        let target = wait_for(PATIENCE, || async {
            let found = find_target(&own.connection, args).await;
            Ok(found.map_err(|error| format!("{error:#}")))
        });
        let target = target.await?;
        Ok((own, target))
    }

    async fn access(self, args: &SyncerArgs) -> Result<Access> {
        let hub = Context::bare(self.connection, args.from_kubeconfig.clone());
        let name = format!("synctarget/{}", args.sync_target_name);
        let target = sync::external_target(&hub, &name).await?;
        sync::access(&hub, &target, None).await
    }

    fn of_account(access: &Access) -> Result<Self> {
        let credential = Credential::Token(access.token.clone());
        let endpoint = Endpoint::new(&access.url, access.ca.clone(), credential)
            .map_err(|error| anyhow!("{}: {error}", access.url))?;
        Ok(Self {
            kubeconfig: with_token(&access.url, &access.ca, &access.token),
            context: None,
            connection: connect(&access.url, &endpoint)?,
            endpoint,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_of_an_account_is_a_kubeconfig_of_its_own() {
        let authority = tmc_server::tls::CertificateAuthority::generate(
            "views",
            tmc_server::tls::Validity::starting_now(std::time::Duration::from_secs(60)),
        )
        .expect("an authority");
        let access = Access {
            url: "https://views.example.org/clusters/root".to_owned(),
            ca: authority.certificate_pem().as_bytes().to_vec(),
            token: "t0ken".to_owned(),
        };
        let way = Way::of_account(&access).expect("a way");
        assert_eq!(way.connection.base_path(), "/clusters/root");
        assert_eq!(way.kubeconfig["users"][0]["user"]["token"], "t0ken");
        assert_eq!(way.context, None);
    }
}
