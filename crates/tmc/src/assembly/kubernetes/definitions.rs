//! What a Kubernetes API server serves, as far as views show it: built-in kinds, and the custom ones
//! by its CustomResourceDefinitions.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use tmc_apimachinery::definition::ResourceDefinition;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_runtime::{Hub, Informer, ResourceClient, Store};
use tmc_virtual::syncer::Definitions;
use tokio_util::sync::CancellationToken;

const BY_RESOURCE: &str = "resource";

/// A CustomResourceDefinition, compiled as it is read; its text is not kept.
struct Compiled(Vec<Arc<ResourceDefinition>>);

impl<'de> Deserialize<'de> for Compiled {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        let crd = serde_json::Value::deserialize(de)?;
        let compiled = tmc_hub::custom_resources::compile(&crd).unwrap_or_else(|causes| {
            let name = meta(&crd).name();
            tracing::warn!(name, ?causes, "a definition of the hub is not understood");
            Vec::new()
        });
        Ok(Self(compiled.into_iter().map(Arc::new).collect()))
    }
}

/// The definitions of one hub.
pub struct HubDefinitions {
    built_in: HashMap<GroupVersionResource, Arc<ResourceDefinition>>,
    custom: Store<Compiled>,
}

fn index(gvr: &GroupVersionResource) -> String {
    format!("{}/{}/{}", gvr.group, gvr.version, gvr.resource)
}

impl HubDefinitions {
    /// Watches the definitions of a hub until `stop`.
    pub fn watch(hub: &Hub, stop: &CancellationToken) -> Self {
        let root = ClusterName::new(ClusterName::ROOT);
        let gvr =
            GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
        let client = ResourceClient::new(hub.cluster(&root), gvr);
        let custom = Informer::<Compiled>::new(client, Some(root)).index(BY_RESOURCE, |_, crd| {
            crd.0
                .iter()
                .map(|definition| index(&definition.gvr()))
                .collect()
        });
        let built_in = tmc_builtins::definitions().into_iter();
        Self {
            built_in: built_in.map(|found| (found.gvr(), found)).collect(),
            custom: custom.spawn(stop.clone()),
        }
    }

    /// Resolves once they are known.
    pub async fn synced(&self) {
        self.custom.synced().await;
    }
}

impl Definitions for HubDefinitions {
    fn definition(&self, gvr: &GroupVersionResource) -> Option<Arc<ResourceDefinition>> {
        if let Some(found) = self.built_in.get(gvr) {
            return Some(found.clone());
        }
        let crds = self.custom.by_index(BY_RESOURCE, &index(gvr));
        crds.iter()
            .flat_map(|(_, crd)| &crd.0)
            .find(|definition| definition.gvr() == *gvr)
            .cloned()
    }
}
