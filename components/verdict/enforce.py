"""The step that makes a blocked run red. Everything measured and decided has been written by then."""

from __future__ import annotations

from pathlib import Path

from components.artifacts import documents
from components.errors import BlockedError
from components.verdict.contract import Verdict
from components.verdict.decide import VERDICT_FILE
from components.verdict.outcomes import stopping_messages

_MOST_MESSAGES = 20


def enforce(verdict: Path) -> None:
    """Return where a verdict passed.

    Args:
        verdict: A verdict's directory.

    Raises:
        BlockedError: If it blocks; says by which findings. Also where its answer and its outcomes do not agree.
        InputError: If it cannot be read.
    """
    found = documents.load(Verdict, verdict / VERDICT_FILE)
    stopping = [outcome for outcome in found.outcomes if outcome.blocks]
    if found.answer == "passed" and not stopping and found.outcomes:
        return
    messages = [message for outcome in stopping for message in stopping_messages(outcome)]
    shown = messages[:_MOST_MESSAGES]
    if len(messages) > len(shown):
        shown.append(f"... and {len(messages) - len(shown)} more; the card shows them all.")
    raise BlockedError("\n".join([found.summary, *(f"  - {message}" for message in shown)]))
