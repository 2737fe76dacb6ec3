"""Two runs side by side: what went in, what was measured, what was decided."""

from __future__ import annotations

from dataclasses import dataclass

from components.artifacts import documents
from components.card.contract import Card, Description
from components.errors import InputError
from components.evidence.contract import Estimate, Evidence
from components.verdict.contract import Verdict
from pipelines.runs import Run
from pipelines.waiving import standing

# What a person asks first: overall figures of the candidate, against itself and against baselines.
_OVERALL_QUESTIONS = {"quality", "calibration", "data"}


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One line: a name, both runs' values as text, and their difference where they differ."""

    name: str
    first: str
    second: str
    difference: str


@dataclass(frozen=True, slots=True)
class Comparison:
    first: str
    second: str
    inputs: tuple[ComparisonRow, ...]
    figures: tuple[ComparisonRow, ...]
    answers: tuple[ComparisonRow, ...]


def compare_runs(first: Run, second: Run) -> Comparison:
    """Put two runs side by side; a run without some artefact shows a dash for it.

    Differences of figures are between two runs' estimates and carry no interval: run the second with the first as its
    `--incumbent` for a paired comparison on the same requests.
    """
    return Comparison(
        first=first.name,
        second=second.name,
        inputs=tuple(_inputs(first, second)),
        figures=tuple(_figures(_estimates(first), _estimates(second))),
        answers=tuple(_answers(_decided(first), _decided(second))),
    )


def described(run: Run) -> Description | None:
    """A run in names and words, for the change log of one that it is the incumbent of; None where it cannot be read.

    Waivers change nothing of it: a card that was written anew tells the same.
    """
    from components.card.describing import describe_card
    from components.verdict.freezing import open_frozen

    try:
        card = documents.load(Card, run.artifact("card") / "card.json")
        policy = open_frozen(run.artifact("policy"))[1]
    except InputError:
        return None
    return describe_card(card, policy)


def _row(name: str, first: str, second: str) -> ComparisonRow:
    return ComparisonRow(name, first, second, "" if first == second else "differs")


def _inputs(first: Run, second: Run) -> list[ComparisonRow]:
    one, two = first.request, second.request
    rows = [
        _row(name, str(getattr(one, name)), str(getattr(two, name)))
        for name in ("name", "as_of", "seed", "threads", "incumbent_run", "submitted_by", "asked_at")
    ]
    rows.append(_row("code", one.code[:12], two.code[:12]))
    for library in sorted({*one.libraries, *two.libraries}):
        rows.append(_row(library, one.libraries.get(library, "—"), two.libraries.get(library, "—")))
    digests, others = first.artifact_digests(), second.artifact_digests()
    for artifact in dict.fromkeys([*digests, *others]):
        rows.append(_row(artifact, digests.get(artifact, "—")[:12], others.get(artifact, "—")[:12]))
    return rows


def _estimates(run: Run) -> dict[str, Estimate]:
    found = {}
    for name in run.artifact_digests():
        if not name.startswith("evidence-"):
            continue
        for path in sorted(run.artifact(name).glob("*.json")):
            evidence = documents.load(Evidence, path)
            if evidence.question not in _OVERALL_QUESTIONS:
                continue
            for estimate in evidence.estimates:
                if not estimate.segment and estimate.statistic in ("value", "difference"):
                    versus = f" − {estimate.versus}" if estimate.versus else ""
                    found[f"{evidence.question}: {estimate.metric} {estimate.subject}{versus}"] = estimate
    return found


def _figures(first: dict[str, Estimate], second: dict[str, Estimate]) -> list[ComparisonRow]:
    rows = []
    for name in dict.fromkeys([*first, *second]):
        one, two = first.get(name), second.get(name)
        both = one is not None and two is not None and one.value is not None and two.value is not None
        difference = f"{two.value - one.value:+.4g}" if both else ""  # type: ignore[union-attr,operator]  # `both`
        rows.append(ComparisonRow(name, _figure(one), _figure(two), "" if difference == "+0" else difference))
    return rows


def _figure(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None:
        return "—"
    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return f"{estimate.value:.5g}"
    return f"{estimate.value:.4f} ({estimate.low:.4f}..{estimate.high:.4f})"


def _verdict(run: Run) -> Verdict | None:
    if "verdict" not in run.artifact_digests():
        return None
    return documents.load(Verdict, run.artifact("verdict") / "verdict.json")


def _decided(run: Run) -> dict[str, str]:
    """The verdict and each criterion's answer, with what is waived of them."""
    verdict = _verdict(run)
    if verdict is None:
        return {}
    stands = standing(run)
    answers = {
        o.criterion: f"{o.answer}, waived" if o.criterion in stands.waived else o.answer for o in verdict.outcomes
    }
    return {"verdict": stands.beside(verdict.answer), **answers}


def _answers(first: dict[str, str], second: dict[str, str]) -> list[ComparisonRow]:
    return [
        _row(name, first.get(name, "—"), second.get(name, "—")) for name in dict.fromkeys(["verdict", *first, *second])
    ]
