"""model-card.yaml: what only the team can say of its ranker, declared beside the policy and fixed with it.

    schema: rankgate/model-card/v1
    datasets: [home-feed]             # dataset contracts that this speaks of; absent: of any
    owner: Home feed team
    contact: home-feed@example.com
    licence: Apache-2.0
    intended_use: Orders the home feed of signed-in users.
    intended_users: [Shoppers in the app, Providers whose items are listed]
    out_of_scope: [Search results, Prices]
    surfaces: [Home feed, app and web]
    main_parameters: What you looked at lately, what others like now, and how new an item is.
    user_options: Settings > Home feed > newest first.
    risks:
      - {harm: New providers are not seen., affected: Small providers, mitigation: A slot of each list explores.}
    oversight: The feed's product owner reads the card; on-call can roll back.
    rollout: 5 %, 25 %, 100 % over a week; rollback by the previous release's manifests.
    retention: Models and evidence two years; exposure logs ninety days.
    changes: Trained on ten weeks instead of eight.

Two places hold such a file: the policy's own folder, and the folder that policies lie in. A field that both fill is the own
file's; one that neither fills is told in the card as not yet written. Everything but `schema` may be left out or left blank.
docs/model-card.md is the reference for whoever writes one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field

from components.artifacts.strict_yaml import Declared, parse_model, read_text
from components.verdict.contract import Harm, Purpose
from components.verdict.policy import policy_folder

MODEL_CARD_FILE = "model-card.yaml"

_SCHEMA = "rankgate/model-card/v1"

Words = Annotated[str, Field(strict=True, min_length=1, max_length=4000, pattern=r"\S")]
"""Text with something in it."""


def _as_list(value: Any) -> Any:
    """One text is a list of one; a key without a value is an empty list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


Lines = Annotated[tuple[Words, ...], BeforeValidator(_as_list)]


class DeclaredHarm(Declared):
    """A harm that can be foreseen, and what is done about it."""

    harm: Words
    mitigation: Words
    affected: Words | None = None


class DeclaredPurpose(Declared):
    """All that a team can say; a field without a value is one that is not written."""

    schema_: Literal["rankgate/model-card/v1"] = Field(alias="schema")
    datasets: Lines = ()
    owner: Words | None = None
    contact: Words | None = None
    licence: Words | None = None
    intended_use: Words | None = None
    intended_users: Lines = ()
    out_of_scope: Lines = ()
    surfaces: Lines = ()
    main_parameters: Words | None = None
    user_options: Words | None = None
    risks: Annotated[tuple[DeclaredHarm, ...], BeforeValidator(_as_list)] = ()
    oversight: Words | None = None
    rollout: Words | None = None
    retention: Words | None = None
    changes: Words | None = None

    @property
    def written(self) -> dict[str, Any]:
        """The fields that hold something, in the order of this class, as plain values."""
        given = self.model_dump(mode="json", by_alias=True, exclude={"schema_", "datasets"})
        risks = [{name: text for name, text in risk.items() if text} for risk in given.pop("risks")]
        given["risks"] = risks
        return {name: given[name] for name in FIELDS if given[name]}

    def speaks_of(self, dataset: str) -> bool:
        """Whether this is about the data set of a contract's name."""
        return not self.datasets or dataset in self.datasets


FIELDS = tuple(name for name in DeclaredPurpose.model_fields if name not in ("schema_", "datasets"))
"""What a team can say, by key."""


def read_declared(folder: Path) -> DeclaredPurpose | None:
    """The model-card.yaml in a folder; None where it has none.

    Raises:
        InputError: If the file cannot be read as YAML.
        FaultyInputError: If it does not hold what a model card can say; names every fault.
    """
    path = folder / MODEL_CARD_FILE
    if not path.exists():
        return None
    return parse_model(DeclaredPurpose, read_text(path, subject=str(path)), subject=str(path))


def places(policy: Path) -> tuple[Path, Path]:
    """Where a policy's team may speak: in the policy's own folder, and in the folder that policies lie in."""
    folder = policy_folder(policy)
    # `.` and `..` have no parent as text.
    return folder, folder.parent if folder.name not in ("", "..") else folder.absolute().resolve().parent


def resolve(policy: Path, dataset: str) -> str:
    """What the team says of a ranker on `dataset` under `policy`, as the text of one model-card.yaml; empty for nothing.

    A file that names other data sets says nothing of this one.

    Raises:
        InputError: As `read_declared`, for either place.
    """
    own, shared = (read_declared(folder) for folder in places(policy))
    said = {
        **(shared.written if shared and shared.speaks_of(dataset) else {}),
        **(own.written if own and own.speaks_of(dataset) else {}),
    }
    if not said:
        return ""
    ordered = {"schema": _SCHEMA, "datasets": [dataset], **{name: said[name] for name in FIELDS if name in said}}
    # All in quotes: PyYAML writes 08 and 1e5 bare, which are text to YAML 1.1 and numbers to 1.2, as we read it.
    text: str = yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=120, default_style='"')
    return text


def read_purpose(folder: Path, dataset: str) -> Purpose:
    """What the model-card.yaml in a folder says of a data set; nothing at all where it has none, or one of others.

    Raises:
        InputError: As `read_declared`.
    """
    said = read_declared(folder)
    if said is None or not said.speaks_of(dataset):
        return Purpose()
    risks = tuple(Harm(risk.harm, risk.mitigation, risk.affected or "") for risk in said.risks)
    return Purpose(
        owner=said.owner or "",
        contact=said.contact or "",
        licence=said.licence or "",
        intended_use=said.intended_use or "",
        intended_users=said.intended_users,
        out_of_scope=said.out_of_scope,
        surfaces=said.surfaces,
        main_parameters=said.main_parameters or "",
        user_options=said.user_options or "",
        risks=risks,
        oversight=said.oversight or "",
        rollout=said.rollout or "",
        retention=said.retention or "",
        changes=said.changes or "",
    )
