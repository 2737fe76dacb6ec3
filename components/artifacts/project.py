"""Files of the project that are no code: where they lie in a checkout, and where in the image that steps run in."""

from __future__ import annotations

import sys
from pathlib import Path

from components.errors import InputError

_CHECKOUT = Path(__file__).resolve().parents[2]


def project_path(name: str) -> Path:
    """`requirements.lock` or the folder `manifests`: of the checkout, or below share/rankgate of the environment.

    Raises:
        InputError: If neither holds it.
    """
    places = [_CHECKOUT / name, Path(sys.prefix) / "share" / "rankgate" / name]
    for place in places:
        if place.exists():
            return place
    raise InputError(
        f"{name}: found none at {' or '.join(map(str, places))}; needed the project's. "
        "Work from a checkout, or in the image that Dockerfile builds."
    )
