//! Kubernetes quantities, exact (`k8s.io/apimachinery/pkg/api/resource`).
