"""What two laws ask to be written down about a ranker, and where the card answers it, or that it does not.

Sources, paraphrased: Regulation (EU) 2024/1689 (AI Act), Annex IV, which is for high-risk systems; Regulation (EU) 2022/2065
(DSA), Articles 27 and 38, which are for online platforms. Whether either binds a ranker is not for a program to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from components.card.contract import Coverage, Obligation
from components.card.words import listed
from components.verdict.contract import Purpose

AI_ACT, DSA = "EU AI Act, Annex IV", "Digital Services Act"


@dataclass(frozen=True, slots=True)
class _Point:
    """One point; `needs` are keys of model-card.yaml without which it is only partly answered."""

    law: str
    point: str
    asks: str
    coverage: Coverage
    where: tuple[str, ...]
    words: str
    needs: tuple[str, ...] = ()


_POINTS = (
    _Point(AI_ACT, "1(a)", "Intended purpose, provider, version and its relation to earlier ones", "here",
           ("purpose", "changes", "lineage"), "", ("intended_use", "owner")),
    _Point(AI_ACT, "1(b)", "How it works together with other software and hardware", "partly", ("serving",),
           "Not covered: how the surface calls the service."),
    _Point(AI_ACT, "1(c)", "Versions of relevant software", "here", ("lineage",),
           "A packaged release has every library of its service, with hashes, in its SBOM."),
    _Point(AI_ACT, "1(d)", "Forms in which it is put into service", "here", ("purpose", "serving"),
           "A service that ranks over HTTP; where its lists are shown is the team’s to say.", ("surfaces",)),
    _Point(AI_ACT, "1(e)", "Hardware it is meant to run on", "not covered", (),
           "Memory and time of the service were measured; the machines are named by the cluster’s manifests."),
    _Point(AI_ACT, "1(f)", "Pictures of products that it is part of", "not covered", (),
           "rankgate knows of no product that the ranker is part of."),
    _Point(AI_ACT, "1(g), (h)", "User interface and instructions for the deployer", "not covered", (),
           "rankgate’s own documents say how a release is run; they are no part of the card."),
    _Point(AI_ACT, "2(a)", "Methods and steps of development, tools of third parties", "here",
           ("model", "data", "lineage"), ""),
    _Point(AI_ACT, "2(b)", "General logic, design choices, what it optimises for, relevance of its parameters", "partly",
           ("model", "quality"), "Not covered: why these choices were made."),
    _Point(AI_ACT, "2(c)", "Architecture and computational resources", "partly", ("model", "lineage"),
           "Not covered: the computing time, which the run’s own record has."),
    _Point(AI_ACT, "2(d)", "Training data: provenance, scope, selection, labelling, cleaning", "here", ("data",), ""),
    _Point(AI_ACT, "2(e)", "Human oversight, and what helps people to interpret the output", "here",
           ("purpose", "decide", "model"), "", ("oversight",)),
    _Point(AI_ACT, "2(f)", "Changes decided in advance", "not covered", (),
           "There are none: each change is a new run with a card and an approval of its own."),
    _Point(AI_ACT, "2(g)", "Validation and testing, metrics, discriminatory impacts, reports dated and signed", "here",
           ("verdict", "quality", "groups", "providers", "proxies", "leakage", "calibration", "drift", "decide"),
           "Date and signature are those of the approval, which lies beside the card."),
    _Point(AI_ACT, "2(h)", "Cybersecurity", "not covered", (),
           "Digests and signatures show that nothing was exchanged; the service’s security is not described here."),
    _Point(AI_ACT, "3", "Limits, accuracy for the groups it is meant for, foreseeable harm, oversight, input data", "here",
           ("groups", "quality", "limits", "purpose", "data"), "", ("risks", "oversight", "intended_users")),
    _Point(AI_ACT, "4", "Whether the metrics are the right ones", "partly", ("certainty", "glossary", "verdict"),
           "Each rule says why it exists. Not covered: that these metrics stand for what users want."),
    _Point(AI_ACT, "5", "Risk management", "partly", ("purpose", "verdict"),
           "Foreseen harms and rules that block. Not covered: the process around them.", ("risks",)),
    _Point(AI_ACT, "6", "Changes over its life", "partly", ("changes",),
           "Against the incumbent. Not covered: earlier ones, which the incumbent’s own card tells."),
    _Point(AI_ACT, "7", "Harmonised standards", "not covered", (), ""),
    _Point(AI_ACT, "8", "EU declaration of conformity", "not covered", (), ""),
    _Point(AI_ACT, "9", "Evaluation after it is put into service", "partly", ("purpose",),
           "Canary and way back. Not covered: the plan of what is watched after that.", ("rollout",)),
    _Point(DSA, "Art. 27(1)", "Main parameters, in plain language", "partly", ("purpose", "model"),
           "Not covered: the terms and conditions, in which a platform must set them out.", ("main_parameters",)),
    _Point(DSA, "Art. 27(1)", "Options to change or influence them", "here", ("purpose",), "", ("user_options",)),
    _Point(DSA, "Art. 27(2)(a)", "The criteria that matter most", "here", ("model",),
           "The features by their weight, each with its meaning."),
    _Point(DSA, "Art. 27(2)(b)", "Why they matter as much as they do", "partly", ("model",),
           "Weights come from what users did in the log. Not covered: why users did it.", ("main_parameters",)),
    _Point(DSA, "Art. 27(3)", "A control with which users choose among several options", "not covered", (),
           "It is part of the surface, not of the ranker."),
    _Point(DSA, "Art. 38", "For very large platforms: an option that is not based on profiling", "not covered", (),
           "This ranker looks at what the user did. Another option is another ranking, on the surface."),
)  # fmt: skip


def obligations(purpose: Purpose, *, unmeasured: Collection[str]) -> tuple[Obligation, ...]:
    """Each point with where it is answered; what the team has not written or the run not measured answers nothing.

    Args:
        purpose: The team's words.
        unmeasured: Ids of sections that hold no figures.
    """
    return tuple(_answered(point, purpose, unmeasured) for point in _POINTS)


def _answered(point: _Point, purpose: Purpose, unmeasured: Collection[str]) -> Obligation:
    lacking = [key for key in point.needs if not getattr(purpose, key)]
    blind = [section for section in point.where if section in unmeasured]
    words = " ".join(filter(None, (point.words, _lacking(lacking), _blind(blind))))
    return Obligation(point.law, point.point, point.asks, _coverage(point, lacking, blind), point.where, words)


def _coverage(point: _Point, lacking: Collection[str], blind: Collection[str]) -> Coverage:
    rests_on = {*point.where} - {*blind} - ({"purpose"} if lacking and len(lacking) == len(point.needs) else set())
    if point.coverage == "not covered" or not rests_on:
        return "not covered"
    return "partly" if lacking or blind else point.coverage


def _lacking(keys: Iterable[str]) -> str:
    named = listed(list(keys))
    return f"Not yet written: {named}." if named != "none" else ""


def _blind(sections: list[str]) -> str:
    return f"Not measured in this run: {listed(sections, most=12)}." if sections else ""
