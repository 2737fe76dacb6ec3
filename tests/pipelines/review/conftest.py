"""A desk with runs to read, and a browser that is none: it speaks to the desk as an ASGI server would."""

from __future__ import annotations

import asyncio
import html
import re
import shutil
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

import pytest

from components.approval.keys import new_key
from components.artifacts import documents
from components.artifacts.digests import digest_file, digest_tree
from components.artifacts.store import SCHEMA_VERSION as STORE_VERSION
from components.artifacts.store import StepRecord
from components.card.build import EVIDENCE_ROLES, write_card
from components.verdict.contract import FrozenPolicy
from pipelines.request import SCHEMA_VERSION, RunRequest
from pipelines.review.application import review_application
from pipelines.review.desk import Desk, open_desk
from pipelines.review.security import Secrets
from pipelines.runs import SCHEMA_VERSION as RUNS_VERSION
from pipelines.runs import Home, Run, RunResult, RunTiming

from ...components.card.conftest import Run as Documents
from ...components.card.conftest import finding, outcome, small_run

PORT = 8123
ORIGIN = f"http://127.0.0.1:{PORT}"
ASKED = datetime(2026, 5, 11, 9, tzinfo=UTC)

_STEPS = {
    "snapshot": {"snapshot": "snapshot"},
    "dataset": {"dataset": "dataset"},
    "ranker": {"ranker": "ranker", "rankings": "rankings"},
    "policy": {"policy": "policy"},
    "verdict": {"verdict": "verdict"},
    **{f"measure-{role}": {"evidence": role} for role in EVIDENCE_ROLES},
}


def keep_run(
    home: Home,
    work: Path,
    held: Documents,
    *,
    name: str = "small-shop",
    seed: int = 0,
    submitter: str = "sam@shop.example",
) -> Run:
    """Keep documents as a finished run, every artefact by its true digest."""
    request = RunRequest(
        schema_version=SCHEMA_VERSION, name=name, contract="{}", policy_files={}, sources={},
        as_of=ASKED.isoformat(), as_of_is_declared=True, incumbent="", incumbent_run="", seed=seed, threads=1,
        code="c" * 64, libraries={}, before=None, submitted_by=submitter,
        asked_at=ASKED.replace(minute=seed % 60).isoformat(),
    )  # fmt: skip
    run = home.run_at(request.run)
    documents.save(request, run.folder / "request.json")
    folder = work / run.name
    policy = folder / "policy" / "policy.yaml"
    held.facts.update(run=run.name, request=request.digest, submitted_by=submitter, created_at=request.asked_at)
    (work / "policy.yaml").write_text("name: default\n")
    frozen = FrozenPolicy(1, "default", "1.0.0", digest_file(work / "policy.yaml"), ASKED.isoformat(), "0" * 64, 3)
    held.verdict = replace(held.verdict, policy=frozen)
    sources = held.sources(folder)
    policy.write_text("name: default\n")
    documents.save(frozen, policy.parent / "frozen.json")
    digests = {place.name: digest_tree(place) for place in folder.iterdir()}
    lineage = replace(
        sources.lineage,
        evidence={role: digests[role] for role in EVIDENCE_ROLES},
        **{role: digests[role] for role in ("snapshot", "dataset", "ranker", "rankings", "policy", "verdict")},
    )
    (folder / "card").mkdir()
    write_card(replace(sources, lineage=lineage), out=folder / "card")
    for step, outputs in {**_STEPS, "card": {"card": "card"}}.items():
        stored = {role: home.store.put(folder / place) for role, place in outputs.items()}
        documents.save(
            StepRecord(STORE_VERSION, step, "k", stored, 0.0, 0.0, 0.0), run.folder / "steps" / f"{step}.json"
        )
    state = held.verdict.answer
    result = RunResult(
        RUNS_VERSION, run.name, state, 0 if state == "passed" else 3, "", ASKED.isoformat(), run.artifact_digests(),
        RunTiming(1.0, 1.0, 0.0, 0.0, ()),
    )  # fmt: skip
    documents.save(result, run.folder / "result.json")
    return run


def waivable_run() -> Documents:
    """Documents of a run that one rule stops, which may be waived."""
    held = small_run()
    unsure = finding(
        "insufficient", -0.01, message="region: neither shown nor ruled out for abroad.", waivable=True, more_users=900
    )
    held.blocked(
        outcome(
            unsure, criterion="region", title="Served alike at home and abroad", answer="insufficient", blocks=True,
            on_insufficient="waive",
        )
    )  # fmt: skip
    return held


def failed_run() -> Documents:
    """Documents of a run that one rule stops, and that nobody may waive."""
    held = small_run()
    wrong = finding("fail", -0.2, segment={"country": "LU"}, versus="rest", message="region: LU is served far worse.")
    held.blocked(outcome(wrong, criterion="region", title="Served alike everywhere", answer="fail", blocks=True))
    return held


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def words(self) -> str:
        """What is to read: without marks, on one line."""
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", self.text)).split())


@dataclass
class Browser:
    """Asks as a browser on our own page would; whatever is given takes the place of that."""

    app: Any
    cookie: str = ""
    root: str = ""

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, fields: dict[str, str] | bytes, **headers: str) -> Answer:
        body = fields if isinstance(fields, bytes) else urlencode(fields).encode()
        told = {"origin": ORIGIN, "content-type": "application/x-www-form-urlencoded"}
        return self.ask("POST", path, body=body, headers=told | headers)

    def ask(self, method: str, path: str, *, body: bytes = b"", headers: dict[str, str]) -> Answer:
        told = {"host": f"127.0.0.1:{PORT}", "cookie": self.cookie} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return asyncio.run(_answer(self.app, method, path, body, {name: text for name, text in told.items() if text}))

    def page(self, name: str) -> Answer:
        return self.get(f"{self.root}runs/{name}")

    def form(self, name: str) -> dict[str, str]:
        """The hidden fields of a run's form."""
        fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', self.page(name).text)
        return {name: html.unescape(value) for name, value in fields}

    def decide(self, name: str, decision: str, reason: str = "read it all", **changes: str) -> Answer:
        fields = self.form(name) | {"decision": decision, "reason": reason} | changes
        return self.post(f"{self.root}runs/{name}/decision", fields)


async def _answer(app: Any, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
    raw, _, query = path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": unquote(raw), "raw_path": raw.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", PORT),
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *rest = sent
    return Answer(
        start["status"],
        {name.decode().lower(): value.decode() for name, value in start["headers"]},
        b"".join(part.get("body", b"") for part in rest),
    )


@dataclass
class Place:
    """A home with runs, and the people at work in it."""

    home: Home
    work: Path
    secrets: Secrets = field(default_factory=Secrets.new)

    @property
    def key(self) -> Path:
        return self.work / "rita.key"

    @property
    def public(self) -> Path:
        return self.work / "rita.key.pub"

    @property
    def waiver_key(self) -> Path:
        return self.work / "wim.key"

    def desk(self, name: str = "rita@shop.example", **given: Any) -> Desk:
        told = {"key": str(self.key), "trusted": [self.public, Path(f"{self.waiver_key}.pub")]} | given
        return open_desk(self.home, name=name, **told)

    def browser(self, desk: Desk | None = None) -> Browser:
        """A browser that has been let in."""
        browser = Browser(review_application(desk or self.desk(), self.secrets, port=PORT))
        browser.root = f"/{self.secrets.folder}/"
        answer = browser.get(f"{browser.root}?token={self.secrets.token}")
        browser.cookie = answer.headers["set-cookie"].partition(";")[0]
        return browser

    def keep(self, held: Documents, **about: Any) -> Run:
        return keep_run(self.home, self.work / "documents", held, **about)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty home, and keys of a reviewer and of who waives."""
    (tmp_path / "documents").mkdir()
    found = Place(Home(tmp_path / "home"), tmp_path)
    new_key(found.key)
    new_key(found.waiver_key)
    return found


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """A home with one run each, and its name: kept once, because writing a card and flushing it takes a moment."""
    found = {}
    for seed, (what, make) in enumerate((("passed", small_run), ("waivable", waivable_run), ("failed", failed_run))):
        work = tmp_path_factory.mktemp(what)
        (work / "documents").mkdir()
        home = Home(work / "home")
        found[what] = (home.root, keep_run(home, work / "documents", make(), seed=seed).name)
    return found


def _copied(place: Place, kept: tuple[Path, str]) -> Run:
    shutil.copytree(kept[0], place.home.root, dirs_exist_ok=True)
    return place.home.run_at(kept[1])


@pytest.fixture
def passed(place: Place, kept: dict[str, tuple[Path, str]]) -> Run:
    """A run that passed."""
    return _copied(place, kept["passed"])


@pytest.fixture
def waivable(place: Place, kept: dict[str, tuple[Path, str]]) -> Run:
    """A run that one rule stops, which may be waived."""
    return _copied(place, kept["waivable"])


@pytest.fixture
def failed(place: Place, kept: dict[str, tuple[Path, str]]) -> Run:
    """A run that one rule stops for good."""
    return _copied(place, kept["failed"])
