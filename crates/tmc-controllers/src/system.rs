//! Names that stay on the hub whatever anyone says.

/// Namespaces that never leave the hub.
const SYSTEM_NAMESPACES: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "kcp-system",
];

/// Whether a namespace never leaves the hub.
pub fn is_system_namespace(name: &str) -> bool {
    SYSTEM_NAMESPACES.contains(&name)
}
