//! The cluster at the other end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tmc_apimachinery::GroupVersionResource;
use tmc_hub::environment::SystemEnvironment;
use tmc_runtime::{Connection, ResourceClient};
use tmc_sim::{Behaviour, Member};

use crate::real::Real;
use crate::rig::connection;

/// How the hub comes to reach a member.
pub(crate) enum Kubeconfigs<'a> {
    /// As a simulated member of this process.
    InProcess(&'a Connection),
    /// With this kubeconfig.
    Text(&'a str),
}

/// A workload kind whose status the benchmark writes in the member, since nobody else there does.
#[derive(Clone, Copy)]
pub(crate) struct StatusKind {
    pub(crate) kind: &'static str,
    pub(crate) resource: &'static str,
}

/// A member cluster.
pub(crate) enum Cluster {
    /// Simulated, in this process, on a store in memory.
    Simulated(Member),
    /// etcd and kube-apiserver, no controllers.
    Real {
        real: Box<Real>,
        connection: Connection,
    },
}

impl Cluster {
    /// A simulated one whose Pods are ready at once.
    pub(crate) async fn simulated() -> Result<Self> {
        let behaviour = Behaviour {
            ready_after: Duration::from_millis(1),
            ..Behaviour::default()
        };
        Ok(Self::Simulated(
            Member::start(Arc::new(SystemEnvironment), behaviour).await?,
        ))
    }

    /// A real one.
    pub(crate) fn real(real: Real) -> Result<Self> {
        let connection = connection(real.kubeconfig())?;
        Ok(Self::Real {
            real: Box::new(real),
            connection,
        })
    }

    /// As its administrator.
    pub(crate) fn connection(&self) -> &Connection {
        match self {
            Self::Simulated(member) => member.connection(),
            Self::Real { connection, .. } => connection,
        }
    }

    /// How to register it.
    pub(crate) fn kubeconfig(&self) -> Kubeconfigs<'_> {
        match self {
            Self::Simulated(member) => Kubeconfigs::InProcess(member.connection()),
            Self::Real { real, .. } => Kubeconfigs::Text(real.kubeconfig()),
        }
    }

    /// A client of one of its resources.
    pub(crate) fn resource(&self, group: &str, version: &str, resource: &str) -> ResourceClient {
        let gvr = GroupVersionResource::new(group, version, resource);
        ResourceClient::new(self.connection().client(""), gvr)
    }

    /// Deployments; but a simulated member writes their status itself.
    pub(crate) fn status_kind(&self) -> StatusKind {
        match self {
            Self::Simulated(_) => StatusKind {
                kind: "StatefulSet",
                resource: "statefulsets",
            },
            Self::Real { .. } => StatusKind {
                kind: "Deployment",
                resource: "deployments",
            },
        }
    }
}
