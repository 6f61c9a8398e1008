"""Pipelines on Kubernetes: render manifests, submit them, and release stages when their inputs are published."""
