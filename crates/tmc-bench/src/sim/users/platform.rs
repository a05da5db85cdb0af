//! What the platform team does to Clusters and their Secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::{DeleteParams, Error, PatchKind};
use tmc_runtime::{Connection, ResourceClient};

use super::{COMPUTE, Done, Users};
use crate::sim::fleet::{Door, Fleet, Site};
use crate::sim::kept;
use crate::sim::process::{Gvr, Process, kinds};
use crate::sim::snapshot::in_member;

/// The namespace of Clusters.
const NAMESPACE: &str = "default";

impl Users {
    /// A cluster leaves: with everything that it runs, without it, or whether it answers or not.
    pub(super) async fn unregister(&self, hub: &Process, fleet: &Fleet) -> Done {
        let Some(site) = self.chance.pick(fleet.sites()) else {
            return Ok("found no cluster".to_owned());
        };
        let name = site.name;
        let (force, keep) = match self.chance.below(6) {
            0..=2 => (false, false),
            3 => (false, true),
            4 => (true, false),
            _ => (true, true),
        };
        let clusters = client(&hub.admin(), kinds::CLUSTERS);
        let cluster = if force || keep {
            let how = json!({"spec": {"deletion": {"force": force, "keepWorkloads": keep}}});
            clusters
                .patch(NAMESPACE, name, "", PatchKind::Merge, &how)
                .await?
        } else {
            clusters.get(NAMESPACE, name).await?
        };
        let only = DeleteParams {
            uid: Some(meta(&cluster).uid().to_owned()),
            ..DeleteParams::default()
        };
        clusters.delete(NAMESPACE, name, &only).await?;
        // What was already on its way out may not be stopped any more.
        if keep && !meta(&cluster).is_being_deleted() {
            self.expect_kept(site, &cluster).await;
        }
        Ok(format!(
            "unregistered {name}, by force: {force}, workload kept: {keep}"
        ))
    }

    /// Remembers the copies that its member is to keep.
    async fn expect_kept(&self, site: &Site, cluster: &Value) {
        let target = cluster.pointer("/status/syncTargetRef/uid");
        let (Some(target), Ok(member)) = (target.and_then(Value::as_str), in_member(site).await)
        else {
            return;
        };
        let copies = kept::of_target(site.name, &member, target, self.disk.revision());
        self.kept.lock().extend(copies);
    }

    /// A cluster that left, or never left, is registered.
    pub(super) async fn register_again(&self, hub: &Process, fleet: &Fleet) -> Done {
        let Some(site) = self.chance.pick(fleet.sites()) else {
            return Ok("found no cluster".to_owned());
        };
        register(&hub.admin(), site).await?;
        Ok(format!("registered {}", site.name))
    }

    /// The Secret of a cluster gets another way into the same member, or the same again.
    pub(super) async fn rotate(&self, hub: &Process, fleet: &Fleet) -> Done {
        let Some(site) = self.chance.pick(fleet.sites()) else {
            return Ok("found no cluster".to_owned());
        };
        let door = self.chance.pick(&Door::ALL).copied().unwrap_or_default();
        write_secret(&hub.admin(), site, &site.kubeconfig(door)).await?;
        Ok(format!("gave {} the kubeconfig of its {door:?}", site.name))
    }

    /// The Secret of a cluster gets something with which nobody comes into the member.
    pub(super) async fn break_secret(&self, hub: &Process, fleet: &Fleet) -> Done {
        let Some(site) = self.chance.pick(fleet.sites()) else {
            return Ok("found no cluster".to_owned());
        };
        let useless = if self.chance.happens(500) {
            "this is no kubeconfig".to_owned()
        } else {
            site.refused_kubeconfig()
        };
        write_secret(&hub.admin(), site, &useless).await?;
        Ok(format!("broke the kubeconfig of {}", site.name))
    }

    /// Gives every cluster that has a useless Secret a good one.
    ///
    /// # Errors
    /// When the hub refuses it.
    pub(crate) async fn mend(&self, hub: &Process, fleet: &Fleet) -> Result<(), Error> {
        let secrets = client(&hub.admin(), kinds::SECRETS);
        for site in fleet.sites() {
            let secret = match secrets.get(NAMESPACE, &secret_name(site)).await {
                Err(error) if error.is_not_found() => continue,
                secret => secret?,
            };
            let good = Door::ALL.map(|door| STANDARD.encode(site.kubeconfig(door)));
            let has = secret.pointer("/data/kubeconfig").and_then(Value::as_str);
            if !has.is_some_and(|has| good.iter().any(|good| good == has)) {
                write_secret(&hub.admin(), site, &site.kubeconfig(Door::Front)).await?;
                let name = site.name;
                self.trace
                    .note(|| format!("user: mended the kubeconfig of {name}"));
            }
        }
        Ok(())
    }
}

fn client(admin: &Connection, gvr: Gvr) -> ResourceClient {
    Process::client(admin, COMPUTE, gvr)
}

fn secret_name(site: &Site) -> String {
    format!("{}-kubeconfig", site.name)
}

async fn write_secret(admin: &Connection, site: &Site, kubeconfig: &str) -> Result<(), Error> {
    let patch = json!({"data": {"kubeconfig": STANDARD.encode(kubeconfig)}});
    client(admin, kinds::SECRETS)
        .patch(NAMESPACE, &secret_name(site), "", PatchKind::Merge, &patch)
        .await?;
    Ok(())
}

/// Registers a member as the platform team does. What is left of an earlier registration is used.
pub(super) async fn register(admin: &Connection, site: &Site) -> Result<(), Error> {
    let name = site.name;
    let secret_name = secret_name(site);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "tmc.kcp.io/kubeconfig",
        "metadata": {"name": secret_name},
        "data": {"kubeconfig": STANDARD.encode(site.kubeconfig(Door::Front))},
    });
    let cluster = json!({
        "apiVersion": "workload.kcp.io/v1alpha1", "kind": "Cluster",
        "metadata": {"name": name},
        "spec": {"kubeconfigSecretRef": {"name": secret_name}, "location": name,
                 "syncTargetTemplate": {"syncerConfig": {"mode": "Hosted"}}},
    });
    let location = json!({
        "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Location",
        "metadata": {"name": name, "labels": {"location": name}},
        "spec": {"resource": {"group": "workload.kcp.io", "version": "v1alpha1",
                              "resource": "synctargets"},
                 "instanceSelector": {"matchLabels": {"location": name}}},
    });
    present(
        client(admin, kinds::SECRETS)
            .create(NAMESPACE, &secret)
            .await,
    )?;
    present(client(admin, kinds::LOCATIONS).create("", &location).await)?;
    client(admin, kinds::CLUSTERS)
        .create(NAMESPACE, &cluster)
        .await?;
    Ok(())
}

/// Made now, or there before.
fn present(made: Result<Value, Error>) -> Result<(), Error> {
    match made {
        Err(error) if !error.already_exists() => Err(error),
        _ => Ok(()),
    }
}
