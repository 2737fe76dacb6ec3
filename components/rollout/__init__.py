"""Rollout: a bento becomes manifests, a canary, and what became of it."""
