"""Where a service finds published features, and whose word counts, as its environment says.

RANKGATE_FEATURES                root that features are published into; without it there are none but the release's own
RANKGATE_FEATURES_TRUST          public key of a publisher, or a folder of them; needed beside a root
RANKGATE_FEATURES_POLL_SECONDS   between one look at the root and the next; 5 without it
RANKGATE_FEATURES_LOCAL          folder of this machine that files are copied to; the system's temporary one without it
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.errors import Fault, FaultyInputError

FOLDER_VARIABLE = "RANKGATE_FEATURES"
TRUST_VARIABLE = "RANKGATE_FEATURES_TRUST"
POLL_VARIABLE = "RANKGATE_FEATURES_POLL_SECONDS"
LOCAL_VARIABLE = "RANKGATE_FEATURES_LOCAL"


@dataclass(frozen=True, slots=True)
class FeatureSettings:
    """Where features come from, and whose word counts."""

    root: Path
    trust: Path
    poll_seconds: float
    local: Path
    """Where files are copied to; a disk of this machine."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> FeatureSettings | None:
        """As the environment says; None where it names no root.

        Raises:
            FaultyInputError: If it names a root and nobody who may publish, or gives a time that is none.
        """
        root = environment.get(FOLDER_VARIABLE, "")
        if not root:
            return None
        faults = []
        trust, said = environment.get(TRUST_VARIABLE, ""), environment.get(POLL_VARIABLE, "") or "5"
        if not trust:
            faults.append(
                Fault(
                    TRUST_VARIABLE,
                    "nothing",
                    f"a folder of publishers' public keys, because {FOLDER_VARIABLE} is set",
                    "Features that nobody signed are never served.",
                )
            )
        try:
            poll = float(said)
        except ValueError:
            poll = 0.0
        if not 0.1 <= poll <= 3_600.0:
            faults.append(Fault(POLL_VARIABLE, repr(said[:40]), "seconds from 0.1 to 3600"))
        if faults:
            raise FaultyInputError("published features", faults)
        return cls(Path(root), Path(trust), poll, Path(environment.get(LOCAL_VARIABLE) or tempfile.gettempdir()))
