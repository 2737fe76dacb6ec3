"""Approval: a card and a verdict become a person's signed decision."""
