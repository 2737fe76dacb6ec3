"""The constants of retrieval, training and re-ranking, in one place.

They were chosen on validation windows only (docs/decisions says how); nothing here has seen a test window.
"""

from __future__ import annotations

from components.ranker.contract import RerankRules

# Retrieval
HALF_LIFE_DAYS = 14.0
NEIGHBOURS = 50
DIMENSIONS = 32
QUOTAS = {"popularity": 200, "covisitation": 100, "factors": 50, "newest": 25}

# Training
OBJECTIVE = "rank:ndcg"
PARAMETERS: dict[str, str | int | float | bool] = {
    "objective": OBJECTIVE,
    "tree_method": "hist",
    "max_bin": 256,
    "eta": 0.05,
    "max_depth": 5,
    "min_child_weight": 20.0,
    "subsample": 0.7,
    "colsample_bytree": 0.5,
    "lambdarank_pair_method": "topk",
    # Labels are gains already: a purchase is worth what the contract says, not two to that power.
    "ndcg_exp_gain": False,
}
ROUNDS = 500
PATIENCE = 100
STOP_AT = 10
"""Early stopping watches NDCG at this cut-off."""
VALIDATION_REQUESTS = 2_000
"""Most validation requests to stop and calibrate by, where a whole catalogue is ranked."""

# Ranking
DEPTH = 50
"""Ranks kept a request where a whole catalogue is ranked; deeper cut-offs raise it."""
DRIFT_ROWS = 60_000
"""Rows of each split kept for drift, about."""
DRIFT_RANKS = 20
"""Where a whole catalogue is ranked, drift looks at what would have been shown: this many first ranks."""
SCORE_ROWS = 131_072
"""Rows scored at once: with 60 features, 31 MB."""

# Re-ranking: nothing is capped unless a team asks for it.
NO_CAPS = RerankRules(max_per_category=0, max_per_provider=0, window=10, exclude_seen=False)
