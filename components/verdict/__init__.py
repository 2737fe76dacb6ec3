"""Verdict: evidence and a policy become a three-valued decision, and its enforcement."""
