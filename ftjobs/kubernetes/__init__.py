"""A pipeline on a Kubernetes cluster: manifests, applying them, and releasing stages as their inputs are published."""
