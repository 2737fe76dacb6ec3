"""XGBoost, and nothing else of it anywhere: LambdaMART on arrays, its model bytes, its scores.

XGBoost is imported as if scikit-learn were not installed: it only wants base classes from there, and importing them costs
every process seconds (1.2 s without, 4 to 6 s with, cold). Model files are XGBoost's own UBJ; nothing is pickled.

Its threads wait asleep instead of spinning, unless OMP_WAIT_POLICY says otherwise: on cores that are shared with others,
or limited as a container's are, two spinning threads took three times as long as one (15.4 s against 5.0 asleep, 40 rounds).
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.errors import InputError
from components.ranker.candidates.interactions import Floats, Ints

_MISSING = object()


def _import_without_sklearn() -> Any:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when XGBoost's library is loaded
    before = sys.modules.get("sklearn", _MISSING)
    if before is _MISSING and "xgboost" not in sys.modules:
        # None makes `import sklearn` raise ImportError, which xgboost.compat takes as "not installed".
        sys.modules["sklearn"] = None  # type: ignore[assignment]
    try:
        import xgboost
    finally:
        if before is _MISSING and sys.modules.get("sklearn", _MISSING) is None:
            del sys.modules["sklearn"]
    return xgboost


xgb: Any = _import_without_sklearn()

VERSION: str = xgb.__version__

_Length = ctypes.c_uint64
_DENSE = b'{"data":[%d,true],"shape":[%d,%d],"typestr":"<f4","version":3,"strides":null}'
"""An array as XGBoost takes it: address, rows, columns."""
_PREDICT = (
    b'{"type":0,"training":false,"iteration_begin":0,"iteration_end":0,"missing":NaN,"strict_shape":false,"cache_id":0}'
)
"""All trees, scores as the objective gives them: for LambdaMART the margin."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Requests to learn from or to watch: rows of one request lie together.

    Where positions are corrected for, rows of a request are in the order they were shown: XGBoost takes a row's place in
    its group as its position.
    """

    features: NDArray[np.float32]
    """Shape (rows, features); NaN is missing."""
    labels: NDArray[np.float32]
    """Shape (rows,), each >= 0."""
    starts: Ints
    """Request boundaries, shape (requests + 1,), ascending from 0 to rows."""
    weights: NDArray[np.float32] | None = None
    """One a request; None = all 1."""


@dataclass(frozen=True, slots=True)
class Fitted:
    booster: Booster
    trees: int
    """Trees kept: up to the best round on the validation requests, all of them without any."""
    curve: tuple[float, ...]
    """The watched metric after each round; empty without validation requests."""
    position_bias: tuple[float, ...]
    """Estimated propensity of a click by position, relative to the first; empty where it was not corrected for."""


class Booster:
    """A trained model: scores rows, says how much each feature contributed."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @classmethod
    def load(cls, content: bytes, *, threads: int) -> Booster:
        """Open UBJ bytes.

        Raises:
            InputError: If XGBoost cannot read them.
        """
        model = xgb.Booster(params={"nthread": threads})
        try:
            model.load_model(bytearray(content))
        except xgb.core.XGBoostError as error:
            first = str(error).splitlines()[0]
            raise InputError(
                f"the model is not readable by XGBoost {VERSION} ({first}); needed its UBJ format."
            ) from error
        model.set_param({"nthread": threads})
        return cls(model)

    def to_bytes(self) -> bytes:
        """The model as UBJ."""
        return bytes(self._model.save_raw("ubj"))

    @property
    def n_features(self) -> int:
        return int(self._model.num_features())

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """One score a row, shape (rows,); higher ranks earlier. Only differences within a request mean anything.

        What `inplace_predict` does, asked of XGBoost's C interface: of a request's hundred rows Python's side of it, which
        looks for every kind of table and writes its settings anew, is a fifth to a third (60 to 90 of 240 to 380 µs).
        """
        rows, columns = features.shape
        if not rows:
            return np.empty(0, dtype=np.float32)
        given = np.ascontiguousarray(features, dtype=np.float32)
        described = _DENSE % (given.ctypes.data, rows, columns)
        shape, dimensions, found = ctypes.POINTER(_Length)(), _Length(), ctypes.POINTER(ctypes.c_float)()
        failed = xgb.core._LIB.XGBoosterPredictFromDense(
            self._model.handle,
            described,
            _PREDICT,
            None,
            ctypes.byref(shape),
            ctypes.byref(dimensions),
            ctypes.byref(found),
        )
        if failed:
            raise xgb.core.XGBoostError(xgb.core._LIB.XGBGetLastError().decode())
        # The figures lie in a buffer that the next prediction writes over.
        return np.ctypeslib.as_array(found, (rows,)).copy()

    def contributions(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Shapley values of each score, shape (rows, features + 1): one a feature, the expectation last; a row adds up."""
        if not len(features):
            return np.empty((0, self.n_features + 1), dtype=np.float32)
        found: NDArray[np.float32] = self._model.predict(xgb.DMatrix(features, nthread=1), pred_contribs=True)
        return found

    def gain_shares(self, n_features: int) -> Floats:
        """Share of the total gain that goes through each feature, shape (features,); zeros where no split was made."""
        gains = self._model.get_score(importance_type="total_gain")
        shares = np.array([float(gains.get(f"f{index}", 0.0)) for index in range(n_features)])
        total = shares.sum()
        return shares / total if total > 0 else shares


def fit(
    training: Examples,
    validation: Examples | None,
    *,
    parameters: Mapping[str, str | int | float | bool],
    rounds: int,
    patience: int,
    metric: str,
    seed: int,
    threads: int,
) -> Fitted:
    """Train, watching `metric` on the validation requests and stopping when it has not improved for `patience` rounds.

    The same arguments give the same bytes, on one thread or several (histograms are summed in a fixed order).

    Args:
        training: Requests to learn from.
        validation: Requests to stop by; without any, all rounds are kept.
        parameters: XGBoost's own names; `objective` and the tree's shape.
        rounds: Most trees.
        patience: Rounds without improvement before stopping.
        metric: XGBoost's name, such as `ndcg@10`; it counts requests without a positive as 1, so the caller leaves them out.
        seed: Of everything XGBoost draws.
        threads: Threads to train with.
    """
    settings = {**parameters, "seed": seed, "nthread": threads, "eval_metric": metric, "disable_default_eval_metric": 1}
    matrix = _matrix(training, settings)
    watched = [] if validation is None else [(_matrix(validation, settings, like=matrix), "validation")]
    history: dict[str, dict[str, list[float]]] = {}
    model = xgb.train(
        settings,
        matrix,
        rounds,
        evals=watched,
        evals_result=history,
        early_stopping_rounds=patience if watched else None,
        verbose_eval=False,
    )
    trees = int(model.best_iteration) + 1 if watched else int(model.num_boosted_rounds())
    curve = history["validation"][metric] if watched else []
    objective = json.loads(model.save_config())["learner"]["objective"]
    # XGBoost keeps room for as many positions as pairs a sample; those beyond the longest list were never seen.
    longest = int(np.diff(training.starts).max(initial=0))
    bias = [float(value) for value in objective.get("ti+", [])[:longest]]
    return Fitted(Booster(model[:trees]), trees, tuple(curve), tuple(bias))


def _matrix(examples: Examples, settings: Mapping[str, Any], *, like: Any = None) -> Any:
    request = np.repeat(np.arange(len(examples.starts) - 1), np.diff(examples.starts))
    return xgb.QuantileDMatrix(
        examples.features,
        label=examples.labels,
        qid=request,
        weight=examples.weights,
        ref=like,
        max_bin=int(settings.get("max_bin", 256)),
        nthread=int(settings["nthread"]),
    )
