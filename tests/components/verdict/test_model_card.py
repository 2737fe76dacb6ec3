"""model-card.yaml: whose words hold of which data set, every fault by name, and fixed with the policy."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from components.artifacts.documents import as_json
from components.errors import FaultyInputError, InputError
from components.verdict.bundle import pack, unpack
from components.verdict.contract import Harm, Purpose
from components.verdict.model_card import (
    FIELDS,
    MODEL_CARD_FILE,
    read_declared,
    read_purpose,
    resolve,
)

SCHEMA = "schema: rankgate/model-card/v1\n"


def policies(root: Path, *, own: str | None = None, shared: str | None = None) -> Path:
    """A policy's folder inside a folder of policies, with the words that are given."""
    folder = root / "policies" / "feed"
    folder.mkdir(parents=True)
    (folder / "policy.yaml").write_text("name: feed\n")
    for place, text in ((folder, own), (folder.parent, shared)):
        if text is not None:
            (place / MODEL_CARD_FILE).write_text(SCHEMA + text, encoding="utf-8")
    return folder


def said(folder: Path, dataset: str, to: Path) -> Purpose:
    """What arrives in a run's first step."""
    unpack(pack(folder, dataset=dataset), to)
    return read_purpose(to, dataset)


def test_every_field_arrives_as_it_was_written(tmp_path: Path) -> None:
    folder = policies(
        tmp_path,
        own="owner: Feed team\ncontact: feed@example.com\nlicence: MIT\nintended_use: Orders the feed.\n"
        "intended_users: Shoppers\nout_of_scope: [Search, Prices]\nsurfaces: [Home]\nmain_parameters: Taste.\n"
        "user_options: Newest first.\nrisks: [{harm: Echo., mitigation: Explore., affected: New sellers}, "
        "{harm: A, mitigation: B}]\n"
        "oversight: Mia reads.\nrollout: 5 % first.\nretention: Two years.\nchanges: More weeks.\n",
    )
    (tmp_path / "out").mkdir()
    assert said(folder, "shop", tmp_path / "out") == Purpose(
        owner="Feed team",
        contact="feed@example.com",
        licence="MIT",
        intended_use="Orders the feed.",
        intended_users=("Shoppers",),
        out_of_scope=("Search", "Prices"),
        surfaces=("Home",),
        main_parameters="Taste.",
        user_options="Newest first.",
        risks=(Harm("Echo.", "Explore.", "New sellers"), Harm("A", "B")),
        oversight="Mia reads.",
        rollout="5 % first.",
        retention="Two years.",
        changes="More weeks.",
    )
    assert set(FIELDS) == set(Purpose.__dataclass_fields__)


def test_a_policys_own_words_go_over_the_shared_ones_field_by_field(tmp_path: Path) -> None:
    folder = policies(tmp_path, own="owner: Feed team\n", shared="owner: The house\ncontact: ask@example.com\n")
    (tmp_path / "out").mkdir()
    found = said(folder, "shop", tmp_path / "out")
    assert (found.owner, found.contact) == ("Feed team", "ask@example.com")


def test_the_shared_words_alone_are_enough(tmp_path: Path) -> None:
    folder = policies(tmp_path, shared="owner: The house\n")
    (tmp_path / "out").mkdir()
    assert said(folder, "shop", tmp_path / "out").owner == "The house"


def test_words_about_another_data_set_say_nothing_of_this_one(tmp_path: Path) -> None:
    folder = policies(tmp_path, own="datasets: [demo-shop]\nowner: Nobody\n", shared="owner: The house\n")
    (tmp_path / "out").mkdir()
    assert said(folder, "our-feed", tmp_path / "out").owner == "The house"
    assert read_purpose(folder, "our-feed") == Purpose()
    assert read_purpose(folder, "demo-shop").owner == "Nobody"


def test_nothing_travels_where_nobody_wrote_anything(tmp_path: Path) -> None:
    folder = policies(tmp_path, own="owner:\nout_of_scope: []\n", shared="datasets: [demo-shop]\nowner: Nobody\n")
    assert MODEL_CARD_FILE not in pack(folder, dataset="our-feed")
    assert resolve(folder, "our-feed") == ""


def test_what_arrives_packs_to_the_same_text_again(tmp_path: Path) -> None:
    folder = policies(tmp_path, own="owner: Feed team\nrisks: [{harm: A, mitigation: B}]\n", shared="contact: x@y.z\n")
    packed = pack(folder, dataset="shop")
    arrived = tmp_path / "alone" / "feed"
    arrived.mkdir(parents=True)
    unpack(packed, arrived)
    assert pack(arrived, dataset="shop") == packed


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60).filter(lambda text: text.strip() != "")
PURPOSES = st.builds(
    Purpose,
    **dict.fromkeys(
        ("owner", "contact", "licence", "intended_use", "main_parameters", "user_options", "oversight", "rollout",
         "retention", "changes"),
        st.one_of(st.just(""), TEXT, st.sampled_from(["08", "1e5", "no", "null", "1:30", "2026-01-01", "~", "- a", "a: b #"])),
    ),
    **dict.fromkeys(("intended_users", "out_of_scope", "surfaces"), st.lists(TEXT, max_size=3).map(tuple)),
    risks=st.lists(st.builds(Harm, TEXT, TEXT, st.one_of(st.just(""), TEXT)), max_size=2).map(tuple),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(said=PURPOSES)
def test_whatever_is_said_arrives_to_the_letter(said: Purpose) -> None:
    given_words = {name: value for name, value in as_json(said).items() if value}
    for risk in given_words.get("risks", []):
        if not risk["affected"]:
            del risk["affected"]
    with tempfile.TemporaryDirectory() as root:
        own = yaml.safe_dump(given_words, default_style='"', allow_unicode=True) if given_words else ""
        folder = policies(Path(root), own=own)
        arrived = Path(root) / "arrived"
        arrived.mkdir()
        unpack(pack(folder, dataset="shop"), arrived)
        assert read_purpose(arrived, "shop") == said


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ownr: x\n", r"ownr: found an unknown key.*Did you mean 'owner'"),
        ("owner: 7\n", r"owner: found 7; needed a valid string"),
        ("owner: '  '\n", r"owner: found '  '"),
        ("risks: [{harm: Echo.}]\n", r"risks\.0\.mitigation: found nothing"),
        ("risks: [{harm: A, mitigation: B, who: C}]\n", r"risks\.0\.who: found an unknown key"),
        ("surfaces: [Home, 3]\n", r"surfaces\.1: found 3"),
        ("owner: a\nowner: b\n", r"the key 'owner' stands here a second time"),
    ],
)
def test_a_fault_is_named_by_file_and_key(tmp_path: Path, text: str, told: str) -> None:
    folder = policies(tmp_path, own=text)
    with pytest.raises(InputError, match=told) as raised:
        resolve(folder, "shop")
    assert "feed/model-card.yaml" in str(raised.value)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    folder = policies(tmp_path, own="ownr: x\ncontact: 3\n")
    with pytest.raises(FaultyInputError, match="2 faults"):
        resolve(folder, "shop")


def test_another_format_is_refused(tmp_path: Path) -> None:
    folder = policies(tmp_path)
    (folder / MODEL_CARD_FILE).write_text("schema: rankgate/model-card/v2\nowner: x\n")
    with pytest.raises(FaultyInputError, match=r"schema: found 'rankgate/model-card/v2'"):
        resolve(folder, "shop")


@pytest.mark.parametrize(("policy", "dataset"), [("default", "demo-shop"), ("retail", "online-retail")])
def test_the_words_that_ship_speak_of_the_data_set_that_ships_and_of_no_other(
    repository: Path, policy: str, dataset: str
) -> None:
    own = read_declared(repository / "policies" / policy)
    assert own
    assert own.datasets == (dataset,)
    # `changes` is of one version of a ranker, `oversight` holds of all and stands in the shared file.
    assert set(FIELDS) - set(own.written) == {"changes", "oversight"}
    theirs = yaml.safe_load(resolve(repository / "policies" / policy, "our-feed"))
    assert set(theirs) == {"schema", "datasets", "oversight"}


def test_the_shared_words_that_ship_offer_every_field(repository: Path) -> None:
    text = (repository / "policies" / MODEL_CARD_FILE).read_text()
    assert [name for name in FIELDS if f"\n{name}:" not in text] == []
