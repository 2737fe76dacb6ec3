"""Harms, planted in copies of an honest run: its log, its features, its rankings, its scores, its serving tables."""
