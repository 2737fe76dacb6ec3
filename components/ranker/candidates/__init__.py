"""Retrieval: which items are worth scoring for a user, out of a whole catalogue."""
