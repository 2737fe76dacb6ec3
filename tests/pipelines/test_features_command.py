"""`rankgate features publish`, `list` and `use`: what they print, what they refuse, in which words and with which exit code."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from components.errors import NotApprovedError
from pipelines import features as orders
from pipelines import releasing
from pipelines.cli import features, main


def _world() -> Any:
    name = "publishing_world"
    path = Path(__file__).resolve().parents[1] / "components" / "serving" / "publishing_world.py"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec
        assert spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


world = _world()


@pytest.fixture
def shop(small_ranker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One run, approved by whoever `reviewer.pub` is."""
    one = world.shop_of(small_ranker, tmp_path)

    class Run:
        name = "shop-1"

        def artifact(self, name: str) -> Path:
            return {"ranker": small_ranker, "snapshot": small_ranker.parent / "snapshot"}[name]

    class Home:
        def __init__(self, _: Path) -> None:
            pass

        def find(self, name: str) -> Run:
            assert name == "shop-1"
            return Run()

    def verified(run: Any, trusted: Any) -> Any:
        if [path.name for path in trusted] != ["reviewer.pub"]:
            raise NotApprovedError("run shop-1: found no approval.")
        return one.release

    monkeypatch.setattr(features, "Home", Home)
    monkeypatch.setattr(orders, "verify_release", verified)
    monkeypatch.setattr(releasing, "verify_release", verified)
    monkeypatch.chdir(tmp_path)
    return one


class Said:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> Said:
    monkeypatch.setattr(sys, "argv", ["rankgate", "features", *words])
    with pytest.raises(SystemExit) as ended:
        main.main()
    said = capsys.readouterr()
    return Said(int(ended.value.code or 0), said.out, said.err)


def words(shop: Any, command: str, *more: str) -> list[str]:
    where = ["--out", "root", "--trust", "reviewer.pub"]
    signed = ["--key", str(shop.key), "--as", "feed-job"] if command != "list" else []
    events = ["--events", str(shop.folder / "shop" / "dataset.yaml")] if command == "publish" else []
    return [command, "shop-1", *more, *events, *signed, *where]


def test_publishing_listing_and_going_back(
    shop: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    none = told(capsys, monkeypatch, *words(shop, "list"))
    assert (none.code, none.out) == (0, "none\n")
    first = told(capsys, monkeypatch, *words(shop, "publish", "--as-of", "2026-05-10T02:30:00Z"))
    assert first.code == 0, first.err
    assert "as of    2026-05-10T02:00:00+00:00, from " in first.out
    assert "counting" in first.err
    assert "signing" in first.err
    second = told(capsys, monkeypatch, *words(shop, "publish", "--as-of", "2026-05-10T04:30:00+01:00", "--json"))
    done = json.loads(second.out)
    assert done["manifest"]["as_of"] == "2026-05-10T03:00:00+00:00"
    assert done["publication"]["published_by"] == "feed-job"
    listed = told(capsys, monkeypatch, *words(shop, "list"))
    assert [line[0] for line in listed.out.splitlines()] == ["*", " "]
    digest = first.out.split()[1]
    used = told(capsys, monkeypatch, *words(shop, "use", digest[:8]))
    assert used.out.startswith(f"features {digest}\n")
    listed = told(capsys, monkeypatch, *words(shop, "list", "--json"))
    assert [(one["digest"], one["current"]) for one in json.loads(listed.out)] == [
        (digest, True),
        (done["digest"], False),
    ]


@pytest.mark.parametrize(
    ("command", "more", "code", "named"),
    [
        ("publish", ["--as-of", "yesterday"], 2, "needed a time with its zone"),
        ("publish", ["--as-of", "2026-05-10T02:30:00"], 2, "without a zone"),
        ("publish", ["--keep", "0"], 2, "--keep"),
        ("publish", ["--as-of", "2026-06-10T02:30:00Z"], 2, "needed one in the last 48 (freshness of the contract)"),
        ("use", ["beef"], 2, "found none of release"),
    ],
)
def test_wrong_words_exit_2_and_leave_nothing(
    shop: Any,
    command: str,
    more: list[str],
    code: int,
    named: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = told(capsys, monkeypatch, *words(shop, command, *more))
    assert (said.code, named in said.err) == (code, True), said.err
    assert not list(Path("root").glob("*/[0-9a-f]*"))


def test_nothing_is_published_for_what_nobody_approved(
    shop: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = told(capsys, monkeypatch, *words(shop, "publish")[:-1], "stranger.pub", "--json")
    assert said.code == 4
    assert json.loads(said.out)["exit_code"] == 4
    assert not Path("root").exists()


def test_a_service_is_told_of_both_or_of_none(shop: Any, tmp_path: Path) -> None:
    assert orders.served_from(None, None) == {}
    said = orders.served_from(Path("root"), shop.trust)
    assert said == {"RANKGATE_FEATURES": str(tmp_path / "root"), "RANKGATE_FEATURES_TRUST": str(shop.trust)}
    for one in ((Path("root"), None), (None, shop.trust)):
        with pytest.raises(Exception, match="found nothing; needed beside the other"):
            orders.served_from(*one)
