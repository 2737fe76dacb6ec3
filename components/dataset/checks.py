"""What a dataset must have to be learnt from and measured on; each refusal says what to mend."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from components.dataset.contract import SPLITS, Feature
from components.dataset.features import outcomes_of
from components.dataset.requests import History, Requests
from components.dataset.staging import Coded
from components.errors import Fault, FaultyInputError, InputError
from components.events.contract import DatasetContract


def check_attributes(coded: Coded, features: tuple[Feature, ...], contract: DatasetContract) -> None:
    """Refuse declared features that nobody and nothing has."""
    faults = []
    for feature in features:
        if feature.family != "attribute":
            continue
        column = (coded.users if feature.entity == "user" else coded.items)[feature.attribute]
        nothing = column.null_count == len(column)
        if nothing or (feature.type == "number" and pc.all(pc.is_nan(column.drop_null())).as_py()):
            where = f"{feature.entity}s.{feature.attribute}"
            faults.append(
                Fault(
                    where,
                    "no value in any row",
                    "some, because its role is feature",
                    "Mend it, or give it the role ignore.",
                )
            )
    if faults:
        raise FaultyInputError(f"dataset contract {contract.name}", faults)


def check_outcomes(history: History, contract: DatasetContract) -> None:
    """Refuse a log without any outcome."""
    if not len(history.ts):
        names = ", ".join(outcomes_of(contract)) or "none with a gain above 0"
        raise InputError(
            f"dataset contract {contract.name}: found no outcome event in the snapshot; needed some ({names}). Check the "
            "names and gains under `events`, and that the log holds what people did as well as what they were shown."
        )


def check_labels(contract: DatasetContract, made: Requests) -> None:
    """Refuse a split whose labels are all alike: nothing could be learnt from it, or measured on it."""
    split = made.table["split"].to_numpy(zero_copy_only=False)
    of_row = split[made.rows["request"].to_numpy()]
    positive = made.rows["positive"].to_numpy(zero_copy_only=False)
    relevant = split[made.relevance["request"].to_numpy()] if made.relevance.num_rows else np.empty(0, object)
    logged = contract.requests.mode == "logged"
    for name in SPLITS:
        labels = positive[of_row == name]
        if not labels.any() and not (relevant == name).any():
            fresh = "an item they had not taken before" if contract.evaluation.exclude_seen else "an item"
            raise InputError(
                f"dataset contract {contract.name}: found no positive label in the {name} requests; needed both kinds. "
                "Check that outcomes name the items that were shown, and that requests.attribution is long enough."
                if logged
                else f"dataset contract {contract.name}: found nobody who took {fresh} in the {name} window; needed some. "
                "Lengthen requests.horizon or the window (split), or set evaluation.exclude_seen to false."
            )
        if len(labels) and labels.all():
            raise InputError(
                f"dataset contract {contract.name}: found only positive labels in the {name} requests; needed both kinds. "
                + (
                    "Check that impressions are logged for what was not taken, too."
                    if logged
                    else "Check that the log holds more items than each user took, and raise requests.negatives."
                )
            )


def check_names(contract: DatasetContract) -> None:
    """Refuse attributes that would be called as a column of ours is."""
    ours = {
        "users": ("user", "user_id"),
        "items": ("item", "item_id", "first_bucket"),
        "events": ("request", "request_id", "user", "ts", "bucket", "split", "cut"),
    }
    faults = [
        Fault(
            f"attributes.{table}.{name}",
            "the name of a column of ours",
            "another",
            f"Rename it by tables.{table}.columns.",
        )
        for table, names in ours.items()
        for name, attribute in getattr(contract.attributes, table).items()
        if attribute.role != "ignore" and name in names
    ]
    if faults:
        raise FaultyInputError(f"dataset contract {contract.name}", faults)
