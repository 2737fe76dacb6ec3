"""Data: what was read, kept, rejected and left out; the window; consent and retention."""

from __future__ import annotations

from datetime import timedelta

from components.card.chapters.looking import MOST_MARKS, estimates, notes, sentences
from components.card.parts import Picture, Section, Table
from components.card.pictures.timeline import timeline
from components.card.pictures.tracks import Mark, tracks
from components.card.sources import Opened
from components.card.words import count, counted, date, instant, interval, listed, metric, moment, plain, share
from components.evidence.contract import Estimate

_NAMES = {"train": "training", "validation": "validation", "test": "test"}


def data(opened: Opened) -> Section:
    """Facts of the snapshot and the dataset; the evidence's checks where there are any."""
    pictures = tuple(filter(None, (_window(opened), _new_and_missing(opened))))
    return Section(
        "data",
        "Data",
        "Is the log whole, fresh and what it should be?",
        (*sentences(opened, "data"), *rights(opened)),
        pictures,
        (_rows(opened), _quarantine(opened), _events(opened), _checks(opened), _sources(opened)),
        notes(opened, "data"),
        measured="data" in opened.evidence,
    )


def rights(opened: Opened) -> tuple[str, ...]:
    """Consent, retention and deletions, a sentence or two each."""
    contract = opened.contract
    consent = contract.consent
    left = sum(table.excluded.get("no consent", 0) for table in opened.snapshot.tables)
    told = (
        f"Consent: only users whose {consent.column} ({consent.table}) is {' or '.join(consent.values)} leave rows; "
        f"{counted(left, 'row')} of others were left out."
        if consent
        else "Consent: the dataset contract declares no consent column, so nobody was left out for want of consent."
    )
    kept = (
        f"Retention: rows older than {_length(contract.retention)} at {date(opened.snapshot.as_of)} were left out."
        if contract.retention
        else "Retention: the dataset contract declares no limit."
    )
    gone = (
        "Deletions: every run reads the team’s tables anew, so whoever was deleted there is in no later snapshot; a snapshot "
        "that was taken before keeps them for as long as its run is kept."
    )
    return told, kept, gone


def _length(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return counted(round(hours / 24), "day") if hours % 24 == 0 else f"{plain(hours)} hours"


def _window(opened: Opened) -> Picture | None:
    cuts = {cut.name: instant(cut.ts) for cut in opened.dataset.cuts}
    first = instant(opened.snapshot.first_ts)
    ends = (first, cuts.get("validation"), cuts.get("test"), cuts.get("release"))
    if any(end is None for end in ends):
        return None
    known = [end for end in ends if end is not None]
    names = ("train", "validation", "test")
    parts = [
        (name, begin, end, f"{counted(max((end - begin).days, 0), 'day')} from {begin.day} {begin:%B %Y}")
        for name, begin, end in zip(names, known, known[1:], strict=False)
    ]
    trained = [(name, at) for name, at in cuts.items() if name.startswith("train-") and at is not None]
    drawn = timeline(parts, trained)
    if drawn is None:
        return None
    held = opened.dataset
    rows = tuple(
        (
            _NAMES[name],
            moment(begin.isoformat()),
            moment(end.isoformat()),
            count(held.requests.get(name, 0)),
            count(held.rows.get(name, 0)),
            count(held.positives.get(name, 0)),
        )
        for name, begin, end, _ in parts
    )
    return Picture(
        "The log’s window, and what each part was used for",
        f"{date(opened.snapshot.first_ts)} to {date(opened.snapshot.last_ts)}: trained on the first "
        f"{counted((known[1] - known[0]).days, 'day')}, tested on the last {counted((known[3] - known[2]).days, 'day')}. "
        "Nothing that is tested on lies before anything that was trained on.",
        f"Judged as of {moment(opened.snapshot.as_of)}."
        + (f" Ticks are the {counted(len(trained), 'moment')} that training asked at." if trained else ""),
        Table(
            "These figures as a table",
            ("part", "from", "to", "requests", "rows with features", "positive outcomes"),
            rows,
        ),
        timeline=drawn,
    )


def _new_and_missing(opened: Opened) -> Picture | None:
    """What test requests lack that training had, and what they hold that it did not know."""
    nulls = [e for e in estimates(opened, "data") if (e.metric, e.statistic) == ("null_share", "difference")]
    known = sorted((e for e in nulls if e.value is not None), key=lambda e: (-abs(e.value or 0.0), e.subject))
    if not known:
        return None
    new = {e.subject: e for e in estimates(opened, "data") if e.metric == "new_category_share"}
    marks = [
        Mark(e.subject, e.value, e.low, e.high, interval(e, 3, signed=True), note=_new_words(new.get(e.subject)))
        for e in known[:MOST_MARKS]
    ]
    most = known[0]
    unseen = [e.subject for e in new.values() if e.value]
    takeaway = (
        f"{most.subject} is unknown for {share(most.detail.get('test'))} of the test requests, against "
        f"{share(most.detail.get('train'))} in training: the largest change. "
        if most.value
        else f"None of {counted(len(known), 'field')} is missing more or less often than in training. "
    )
    takeaway += f"New values occur in {listed(unseen)}." if unseen else "No value is new."
    rows = tuple(
        (
            e.subject,
            share(e.detail.get("train")),
            share(e.detail.get("test")),
            interval(e, 4, signed=True),
            share(new[e.subject].value, 2) if e.subject in new else "—",
            count(e.n_users),
        )
        for e in known
    )
    headers = ("field", "missing in training", "missing in test", "change", "new values", "users")
    return Picture(
        "What has gone missing since training, and what is new",
        takeaway,
        "Change of the share without a value, test requests less training requests: to the right, more is missing. "
        "Beside each field, how often test requests hold a value that training never saw.",
        Table("Every field as a table", headers, rows),
        tracks=tracks(marks, reference=0.0),
    )


def _new_words(new: Estimate | None) -> str:
    if new is None or new.value is None:
        return ""
    return f"{share(new.value)} new" if new.value else "none new"


def _rows(opened: Opened) -> Table:
    rows = tuple(
        (
            table.table,
            count(table.read),
            count(table.kept),
            f"{count(sum(table.rejected.values()))} ({share(sum(table.rejected.values()) / (table.read or 1))})",
            f"{count(sum(table.excluded.values()))} ({share(sum(table.excluded.values()) / (table.read or 1))})",
        )
        for table in opened.snapshot.tables
    )
    headers = ("table", "read", "kept", "in quarantine", "left out lawfully")
    return Table("Rows read, kept and left out", headers, rows, shown=True)


def _quarantine(opened: Opened) -> Table:
    rows = tuple(
        (reason, table.table, count(number), what)
        for what, table, reason, number in sorted(
            (
                (what, table, reason, number)
                for table in opened.snapshot.tables
                for what, reasons in (("quarantine", table.rejected), ("left out lawfully", table.excluded))
                for reason, number in reasons.items()
            ),
            key=lambda row: (-row[3], row[1].table, row[2]),
        )
    )
    return Table("Why rows were not kept", ("reason", "table", "rows", "where they are"), rows)


def _events(opened: Opened) -> Table:
    kinds = opened.contract.events
    rows = tuple(
        (
            name,
            kinds[name].role if name in kinds else "—",
            plain(kinds[name].gain) if name in kinds and kinds[name].role == "outcome" else "—",
            count(number),
        )
        for name, number in sorted(opened.snapshot.event_counts.items())
    )
    return Table("Events kept, and what each is worth to the ranking", ("event", "role", "gain", "rows"), rows)


def _checks(opened: Opened) -> Table:
    found = [e for e in estimates(opened, "data") if e.value is not None and e.statistic == "value"]
    rows = tuple(
        (
            f"{metric(e.metric)}: {e.subject}",
            share(e.value, 2) if e.metric.endswith(("_share", "_rate")) else plain(e.value or 0.0),
        )
        for e in found
    )
    return Table("Every check of the log", ("check", "found"), rows)


def _sources(opened: Opened) -> Table:
    rows = tuple((name, digest) for name, digest in sorted(opened.snapshot.sources.items()))
    return Table("The files that were read, by sha256", ("file", "sha256"), rows)
