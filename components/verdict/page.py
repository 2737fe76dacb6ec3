"""A verdict as Kubeflow's page shows it: a table in Markdown, and counts that runs are compared by."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from components.artifacts import documents
from components.artifacts.files import write_atomically
from components.verdict.contract import Finding, Verdict
from components.verdict.outcomes import by_concern, deciding


def publish_verdict(verdict: Path, page: Path) -> dict[str, float]:
    """Write the page of the verdict in folder `verdict`; returns its counts."""
    held = documents.load(Verdict, verdict / "verdict.json")
    write_atomically(page, in_markdown(held).encode())
    return counts(held)


def in_markdown(verdict: Verdict) -> str:
    """The verdict: its sentence, then a row a criterion, those of most concern first."""
    lines = [
        f"# {'Passed' if verdict.answer == 'passed' else 'Blocked'}",
        "",
        plain(verdict.summary),
        "",
        f"Policy {verdict.policy.name}@{verdict.policy.version}, `{verdict.policy.digest[:16]}`.",
        "",
        "| answer | criterion | found | needed | users |",
        "|---|---|---|---|---|",
    ]
    for outcome in by_concern(verdict.outcomes):
        finding = deciding(outcome)
        word: str = "not applicable" if outcome.not_applicable else outcome.answer
        if outcome.answer != "pass" and not outcome.blocks:
            word = f"{word}, noted"
        needed = finding.needed if finding else ""
        users = f"{finding.n_users:,}" if finding and finding.n_users else ""
        lines.append(f"| {word} | {plain(outcome.title)} | {_found(finding)} | {plain(needed)} | {users} |")
    return "\n".join([*lines, ""])


def counts(verdict: Verdict) -> dict[str, float]:
    """How many criteria gave which answer, and how many of them stop the release; `passed` is 1 or 0."""
    answers = Counter(outcome.answer for outcome in verdict.outcomes if not outcome.not_applicable)
    return {
        "passed": float(verdict.answer == "passed"),
        "criteria": float(len(verdict.outcomes)),
        "criteria_passed": float(answers["pass"]),
        "criteria_failed": float(answers["fail"]),
        "criteria_insufficient": float(answers["insufficient"]),
        "criteria_that_block": float(sum(outcome.blocks for outcome in verdict.outcomes)),
    }


def _found(finding: Finding | None) -> str:
    if finding is None or finding.value is None:
        return "not measured"
    if finding.low is None or finding.high is None or finding.low == finding.high:
        return f"{finding.value:.4g}"
    return f"{finding.value:.3f} ({finding.low:.3f} to {finding.high:.3f})"


def plain(text: str) -> str:
    """Free text as a cell of a Markdown table: it cannot end the cell, or bring marks of its own into the page."""
    for mark in "\\|<>[]*_":
        text = text.replace(mark, f"&#{ord(mark)};")
    return " ".join(text.split())
