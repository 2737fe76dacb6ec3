"""Evidence directories as the verdict room reads them: what can be relied on, and why the rest cannot. Never raises."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.artifacts import documents
from components.artifacts.digests import digest_bytes
from components.errors import InputError
from components.evidence.contract import QUESTIONS, Evidence, Question


@dataclass(frozen=True, slots=True)
class ReadEvidence:
    """What was found for each question."""

    evidence: dict[Question, Evidence]
    broken: dict[Question, str]
    """Why a question that has a file cannot be relied on."""
    digests: dict[str, str]
    """sha256 of each file that was read, broken ones included, by question."""


def read_evidence(folders: Sequence[Path]) -> ReadEvidence:
    """Read `<question>.json` of every question from the folders that hold it."""
    evidence: dict[Question, Evidence] = {}
    broken: dict[Question, str] = {}
    digests: dict[str, str] = {}
    for question in QUESTIONS:
        files = [folder / f"{question}.json" for folder in folders if _is_there(folder / f"{question}.json")]
        if not files:
            continue
        if len(files) > 1:
            broken[question] = f"{question}.json lies in {len(files)} evidence folders; needed in one"
            continue
        read = _read(files[0], question)
        if isinstance(read, str):
            broken[question] = read
        else:
            evidence[question] = read
        digest = _digest(files[0])
        if digest is not None:
            digests[question] = digest
    for question, reason in disagreements(evidence).items():
        broken[question] = reason
        del evidence[question]
    return ReadEvidence(evidence, broken, digests)


def disagreements(evidence: Mapping[Question, Evidence]) -> dict[Question, str]:
    """Questions measured on different things under the same name: such figures do not speak of one candidate."""
    seen: dict[str, dict[str, list[Question]]] = defaultdict(lambda: defaultdict(list))
    for question, found in evidence.items():
        for name, digest in found.inputs.items():
            seen[name][digest].append(question)
    reasons: dict[Question, str] = {}
    for name, digests in sorted(seen.items()):
        if len(digests) > 1:
            told = "; ".join(f"{', '.join(questions)}: {digest[:12]}" for digest, questions in sorted(digests.items()))
            for question in _all(digests.values()):
                reasons.setdefault(question, f"evidence was measured on different inputs called {name} ({told})")
    return reasons


def _all(lists: Iterable[list[Question]]) -> list[Question]:
    return [question for questions in lists for question in questions]


def _is_there(path: Path) -> bool:
    try:
        return path.exists() or path.is_symlink()
    except OSError:
        return True


def _read(path: Path, question: Question) -> Evidence | str:
    try:
        content = path.read_bytes()
        found = documents.parse(Evidence, content, subject=path.name)
    except InputError as error:
        return f"the evidence cannot be read: {' '.join(str(error).split())}"
    except (OSError, RecursionError) as error:
        return f"the evidence {path.name} cannot be read ({type(error).__name__})"
    if found.question != question:
        return f"the evidence {path.name} answers the question {found.question}"
    return found


def _digest(path: Path) -> str | None:
    try:
        return digest_bytes(path.read_bytes())
    except OSError:
        return None
