"""Pipelines: rooms wired into Kubeflow pipelines, their local runs, and the command line."""
