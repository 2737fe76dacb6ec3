"""The card's sections as plain values: sentences, pictures, tables. Templates lay them out; nothing is computed there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.card.pictures.lines import Plot, curve, reliability
from components.card.pictures.tracks import Mark, Tracks, tracks
from components.card.sources import Opened
from components.card.words import count, figure, interval, segment, share
from components.evidence.contract import Estimate
from components.ranker.contract import CANDIDATE, INCUMBENT
from components.verdict.contract import Outcome

_MOST_MARKS = 16
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the first column holds names, the others figures."""

    caption: str
    headers: Row
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: rows on a track, or a plot; `told` is what it shows, in a sentence."""

    title: str
    told: str
    tracks: Tracks | None = None
    plot: Plot | None = None
    x_label: str = ""
    y_label: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the card."""

    id: str
    title: str
    question: str
    sentences: tuple[str, ...]
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
    """Conventions: name and text."""


def sections(opened: Opened) -> tuple[Section, ...]:
    """What was measured, in reading order; a question without evidence keeps its section and says so."""
    return (
        quality(opened),
        groups(opened),
        providers(opened),
        calibration(opened),
        drift(opened),
        data(opened),
        model(opened),
    )


def _notes(opened: Opened, question: str) -> tuple[tuple[str, str], ...]:
    held = opened.evidence.get(question)
    return tuple(sorted(held.conventions.items())) if held else ()


def _missing(opened: Opened, question: str) -> tuple[str, ...]:
    held = opened.evidence.get(question)
    return held.sentences if held else (f"This was not measured: there is no readable evidence for {question}.",)


def _estimates(opened: Opened, question: str) -> tuple[Estimate, ...]:
    held = opened.evidence.get(question)
    return held.estimates if held else ()


def main_cutoff(opened: Opened) -> int:
    """The cut-off whose figures are shown first."""
    ordered = sorted(opened.rankings.cutoffs)
    return 10 if 10 in ordered else ordered[len(ordered) // 2]


def _band(opened: Opened, evidence: str, metric: str, statistic: str) -> tuple[float, float] | None:
    """What the policy calls harm: beyond the bound of its first blocking criterion on this figure."""
    for outcome in opened.verdict.outcomes:
        if _is_on(outcome, evidence, metric, statistic) and outcome.findings:
            finding = outcome.findings[0]
            if finding.needed.startswith("at least"):
                return float("-inf"), finding.margin
            if finding.needed.startswith("at most"):
                return finding.margin, float("inf")
    return None


def _is_on(outcome: Outcome, evidence: str, metric: str, statistic: str) -> bool:
    return (outcome.evidence, outcome.metric, outcome.statistic) == (evidence, metric, statistic)


def quality(opened: Opened) -> Section:
    """How good the lists are, against baselines and the incumbent."""
    k = main_cutoff(opened)
    found = _estimates(opened, "quality")
    main = f"ndcg@{k}"
    order = [system.name for system in opened.rankings.systems]
    values = [e for e in found if e.metric == main and e.statistic == "value" and not e.segment and e.subject in order]
    values.sort(key=lambda e: -(e.value or 0.0))
    marks = [
        Mark(e.subject, e.value, e.low, e.high, interval(e), tone="own" if e.subject == CANDIDATE else "plain")
        for e in values
    ]
    gaps = [e for e in found if e.metric == main and e.statistic == "difference" and not e.segment]
    gap_marks = [
        Mark(f"against {e.versus}", e.value, e.low, e.high, interval(e, signed=True), tone=_tone(e)) for e in gaps
    ]
    metrics = sorted({e.metric for e in found if e.statistic == "value" and not e.segment and e.subject == CANDIDATE})
    by_metric = {(e.metric, e.subject): e for e in found if e.statistic in ("value", "ratio") and not e.segment}
    rows = tuple(
        (metric, *(interval(by_metric[metric, name]) if (metric, name) in by_metric else "—" for name in order))
        for metric in metrics
    )
    gap_rows = tuple(
        (f"{e.metric} against {e.versus}", interval(e, signed=True), count(e.n_users), figure(e.mde)) for e in found
        if e.statistic == "difference" and not e.segment
    )  # fmt: skip
    pictures = []
    if marks:
        pictures.append(
            Picture(f"NDCG@{k} of each system", "Dots are means over users, bars 95% intervals.", tracks(marks))
        )
    if gap_marks:
        pictures.append(
            Picture(
                f"NDCG@{k} of the candidate less each other system, on the same requests",
                "Right of the line the candidate is better. Paired by user, so these bars are narrower than those above.",
                tracks(gap_marks, reference=0.0, signed=True),
            )
        )
    return Section(
        "quality",
        "Ranking quality",
        "Are the lists better than simple ones, and no worse than what is in service?",
        _missing(opened, "quality"),
        tuple(pictures),
        (
            Table("Every metric of every system", ("metric", *order), rows),
            Table(
                "The candidate against the others, paired",
                ("comparison", "difference", "users", "detectable"),
                gap_rows,
            ),
        ),
        _notes(opened, "quality"),
    )


def _tone(estimate: Estimate, reference: float = 0.0) -> str:
    if estimate.high is not None and estimate.high < reference:
        return "bad"
    return "good" if estimate.low is not None and estimate.low > reference else "plain"


def groups(opened: Opened) -> Section:
    """Each group of users against the rest."""
    k = main_cutoff(opened)
    found = _estimates(opened, "fairness-users")
    metric = f"ndcg@{k}"
    band = _band(opened, "fairness-users", metric, "difference")
    statistic, reference, signed = "difference", 0.0, True
    if band is None and (ratio := _band(opened, "fairness-users", metric, "ratio")):
        band, statistic, reference, signed = ratio, "ratio", 1.0, False
    gaps = [e for e in found if e.metric == metric and e.statistic == statistic]
    single = sorted((e for e in gaps if len(e.segment) == 1), key=lambda e: (sorted(e.segment), -(e.n_users)))
    crossed = sorted((e for e in gaps if len(e.segment) > 1), key=lambda e: e.value if e.value is not None else 9.0)
    drawn = (*single[:_MOST_MARKS], *crossed[: max(0, _MOST_MARKS - len(single))])
    marks = [
        Mark(
            segment(e.segment),
            e.value,
            e.low,
            e.high,
            interval(e, signed=signed),
            note=f"{count(e.n_users)} users",
            tone=_tone(e, reference) if _tone(e, reference) == "bad" else "plain",
        )
        for e in drawn
    ]
    levels = {tuple(e.segment.items()): e for e in found if e.metric == metric and e.statistic == "value"}
    others = {
        (name, tuple(e.segment.items())): e for e in found if e.metric == metric and (name := e.statistic) != "value"
    }
    rows = []
    for e in (*single, *crossed):
        key = tuple(e.segment.items())
        cells = [others.get((name, key)) for name in ("difference", "ratio", "change")]
        rows.append(
            (
                segment(e.segment),
                count(e.n_users),
                interval(levels[key]) if key in levels else "—",
                *(interval(c, signed=place != 1) if c else "—" for place, c in enumerate(cells)),
                figure(others[("difference", key)].mde) if ("difference", key) in others else "—",
            )
        )
    told = "Each group against everyone else; bars hold for all groups together."
    if band:
        told += " The shaded side is what the policy calls harm: a group whose bar lies wholly in it fails."
    if len(drawn) < len(gaps):
        told += f" {len(gaps) - len(drawn)} more are in the table."
    words = "as a ratio to the rest" if statistic == "ratio" else "against the rest"
    pictures = (
        Picture(f"NDCG@{k} of each group {words}", told, tracks(marks, reference=reference, band=band, signed=signed)),
    )
    headers = ("group", "users", f"NDCG@{k}", "difference", "ratio", "change against incumbent", "detectable gap")
    return Section(
        "groups",
        "Quality by group of users",
        "Is any group served worse than the rest, by more than the policy allows?",
        _missing(opened, "fairness-users"),
        pictures if marks else (),
        (Table("Every group, the small and the unknown included", headers, tuple(rows)),),
        _notes(opened, "fairness-users"),
    )


def providers(opened: Opened) -> Section:
    """Exposure of providers against what they earned."""
    k = main_cutoff(opened)
    found = _estimates(opened, "fairness-providers")
    metric = f"exposure@{k}"
    merit = [e for e in found if e.metric == metric and e.versus == "relevance"]
    merit.sort(key=lambda e: e.value if e.value is not None else 9.0)
    marks = [
        Mark(
            e.subject, e.value, e.low, e.high, interval(e, 2),
            note=f"{share(e.detail.get('exposure_share'))} of exposure, {share(e.detail.get('relevance_share'))} of gains",
            tone=_tone(e, 1.0) if _tone(e, 1.0) == "bad" else "plain",
        )
        for e in merit[:_MOST_MARKS]
    ]  # fmt: skip
    table = opened.tables.get("fairness-providers.providers", [])
    rows = tuple(
        (row["provider"], share(row["exposure_share"]), share(row["relevance_share"]), share(row["catalogue_share"]))
        for row in sorted(table, key=lambda row: (-(row["exposure_share"] or 0.0), row["provider"]))
        if row["system"] == CANDIDATE
    )
    told = "1 is just as much exposure as the provider's items earned; left of it, less."
    if len(merit) > len(marks):
        told += f" The {len(marks)} with the least are shown; all are in the table."
    band = _band(opened, "fairness-providers", metric, "ratio")
    pictures = (
        Picture("Exposure of each provider against what it earned", told, tracks(marks, reference=1.0, band=band)),
    )
    headers = ("provider", "of exposure", "of gains", "of the catalogue")
    return Section(
        "providers",
        "Exposure of providers",
        "Do providers get the exposure that their items earn?",
        _missing(opened, "fairness-providers"),
        pictures if marks else (),
        (Table("Every provider, under the candidate", headers, rows),) if rows else (),
        _notes(opened, "fairness-providers"),
    )


def calibration(opened: Opened) -> Section:
    """Scores as chances."""
    rows = opened.tables.get("calibration.bins", [])
    known = [row for row in rows if row.get("predicted") is not None and row.get("observed") is not None]
    plot = reliability([(r["predicted"], r["observed"], r["observed_low"], r["observed_high"]) for r in known])
    table = tuple(
        (
            f"{figure(r['lowest'])} to {figure(r['highest'])}",
            count(r["rows"]),
            count(r["users"]),
            figure(r["predicted"]),
            f"{figure(r['observed'])} ({figure(r['observed_low'])} to {figure(r['observed_high'])})",
        )
        for r in known
    )
    picture = Picture(
        "Predicted against observed",
        "On the diagonal, of a hundred items told a chance of 20% twenty lead to an outcome.",
        plot=plot,
        x_label="predicted share",
        y_label="observed share",
    )
    headers = ("predicted between", "rows", "users", "predicted", "observed")
    return Section(
        "calibration",
        "Scores as chances",
        "When the score says one in five, is it one in five?",
        _missing(opened, "calibration"),
        (picture,) if plot else (),
        (Table("Reliability, by bins of equal size", headers, table),) if table else (),
        _notes(opened, "calibration"),
    )


def drift(opened: Opened) -> Section:
    """Inputs now against inputs before."""
    found = [e for e in _estimates(opened, "drift") if e.metric == "distance"]
    found.sort(key=lambda e: (-e.detail.get("importance", 0.0), e.subject))
    marks = [
        Mark(
            e.subject,
            e.value,
            e.low,
            e.high,
            interval(e, 2),
            note=f"{share(e.detail.get('importance', 0.0), 0)} of the model",
            tone="bad" if e.low is not None and e.low > e.detail.get("threshold", 9.0) else "plain",
            threshold=e.detail.get("threshold"),
        )
        for e in found[:_MOST_MARKS]
    ]
    rows = tuple(
        (
            e.subject,
            share(e.detail.get("importance", 0.0)),
            interval(e),
            figure(e.detail.get("threshold")),
            figure(e.detail.get("null")),
            share(e.detail.get("missing_reference")),
            share(e.detail.get("missing_current")),
        )
        for e in found
    )
    headers = ("column", "importance", "distance", "threshold", "before", "missing then", "missing now")
    told = (
        "Columns by their weight in the model. The tick is the column's own threshold: how far it moved before, or 0.1."
    )
    return Section(
        "drift",
        "Drift",
        "Have the inputs moved between validation and test, more than they used to?",
        _missing(opened, "drift"),
        (Picture("Distance of each column from the week before", told, tracks(marks)),) if marks else (),
        (Table("Every column", headers, rows),),
        _notes(opened, "drift"),
    )


def data(opened: Opened) -> Section:
    """The log, its faults and its splits."""
    tables = [
        Table(
            "Rows read, kept, rejected and left out",
            ("table", "read", "kept", "rejected", "left out lawfully"),
            tuple(
                (t.table, count(t.read), count(t.kept), _reasons(t.rejected), _reasons(t.excluded))
                for t in opened.snapshot.tables
            ),
        ),
        Table(
            "Events kept, by kind",
            ("event", "rows"),
            tuple((name, count(number)) for name, number in sorted(opened.snapshot.event_counts.items())),
        ),
        Table(
            "Requests and labels of each split",
            ("split", "requests", "rows", "positives"),
            tuple(
                (name, count(number), count(opened.dataset.rows[name]), count(opened.dataset.positives[name]))
                for name, number in opened.dataset.requests.items()
            ),
        ),
    ]
    checks = tuple(
        (f"{e.metric} of {e.subject}", figure(e.value, 4)) for e in _estimates(opened, "data") if e.metric != "requests"
    )
    if checks:
        tables.append(Table("Checks of the log", ("check", "found"), checks))
    return Section(
        "data",
        "Data",
        "Is the log whole, fresh and what it should be?",
        _missing(opened, "data"),
        (),
        tuple(tables),
        _notes(opened, "data"),
    )


def _reasons(counts: dict[str, int]) -> str:
    return "; ".join(f"{reason}: {count(number)}" for reason, number in sorted(counts.items())) or "0"


def model(opened: Opened) -> Section:
    """What the model is and looks at."""
    ranker = opened.ranker
    shares = {held.feature: held.gain_share for held in ranker.importance}
    ordered = sorted(opened.dataset.features, key=lambda f: (-shares.get(f.name, 0.0), f.name))
    used = [f for f in ordered if f.name in ranker.features]
    marks = [
        Mark(f.name, shares.get(f.name, 0.0), None, None, share(shares.get(f.name, 0.0)), tone="own")
        for f in used[:_MOST_MARKS]
        if shares.get(f.name, 0.0) > 0
    ]
    sources = (
        ", ".join(f"{name} (up to {quota})" for name, quota in ranker.candidate_sources.items()) or "what was shown"
    )
    sentences = [
        f"{ranker.objective} with {ranker.trees} trees on {count(ranker.training_rows)} rows of "
        f"{count(ranker.training_requests)} requests, {len(ranker.features)} features, seed {ranker.seed}, "
        f"{ranker.threads} threads.",
        f"Candidates come from: {sources}.",
    ]
    if ranker.position_bias:
        sentences.append("Clicks were corrected for the position at which they were shown.")
    rows = tuple((f.name, share(shares.get(f.name, 0.0)), f.family, f.meaning) for f in used)
    parameters = tuple((name, str(value)) for name, value in sorted(ranker.parameters.items()))
    pictures = []
    if marks:
        pictures.append(
            Picture(
                "What the model looks at",
                "Share of the model's gain through each feature.",
                tracks(marks, reference=0.0),
            )
        )
    learned = curve(ranker.validation_curve, chosen=ranker.trees)
    if learned and len(ranker.validation_curve) > 1:
        pictures.append(
            Picture(
                f"{ranker.validation_metric} on validation, by number of trees",
                f"Training stopped where validation did not get better; {ranker.trees} trees were kept.",
                plot=learned,
                x_label="trees",
                y_label=ranker.validation_metric,
            )
        )
    return Section(
        "model",
        "Model",
        "What decides the order, in plain words?",
        tuple(sentences),
        tuple(pictures),
        (
            Table(
                "Main parameters of the ranking: every feature, by its weight",
                ("feature", "weight", "family", "meaning"),
                rows,
            ),
            Table("Training parameters", ("parameter", "value"), parameters),
        ),
    )


def limitations(opened: Opened) -> tuple[str, ...]:
    """What a reader must not conclude, from the facts of this very run."""
    told = []
    if opened.dataset.mode == "logged":
        told.append(
            "Lists were re-ranked that an earlier policy chose and showed; items that it never showed are not judged, and "
            "what was shown higher was clicked more, which favours that policy's order."
        )
    else:
        told.append(
            "Only what users took is known, not what they saw: an item that was never offered counts as not wanted."
        )
    unsure = [o for o in opened.verdict.outcomes if o.answer == "insufficient" and not o.not_applicable]
    for outcome in unsure:
        told.append(
            f"“{outcome.title}” could not be settled with these users; it is neither shown to hold nor to break."
        )
    unknown = [e for e in _estimates(opened, "fairness-users") if e.metric == "unknown_share" and e.value]
    for estimate in unknown:
        told.append(f"{estimate.subject} is not known for {share(estimate.value)} of the measured users.")
    absent = [
        name for name in ("data", "quality", "calibration", "fairness-users", "drift") if name not in opened.evidence
    ]
    if absent:
        told.append(f"Not measured in this run: {', '.join(absent)}.")
    if INCUMBENT not in {system.name for system in opened.rankings.systems}:
        told.append("There is no incumbent to compare with: this would be the first release.")
    told.append(
        "All figures are of past requests. What users do with lists they have not seen, only a canary can tell."
    )
    return tuple(told)


def by_concern(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """What blocks first, then what is unsure, then what passed, then what did not apply."""
    return tuple(
        sorted(outcomes, key=lambda o: (not o.blocks, bool(o.not_applicable), o.answer == "pass", not o.blocking))
    )
