"""Artifacts: digests, atomic files, documents, steps and the content-addressed store; shared by every room."""
