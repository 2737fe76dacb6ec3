"""Statistics: intervals, corrections and decisions on one row a user. Pure: arrays in, arrays out; numpy only.

Inference that is read while data come (a canary) stands apart and is imported by module, with scipy's special functions:

sequential             evidence and limits that hold at every look, from an estimate and its variance
sequential_windows     two arms moment by moment: differences of rates, variance between moments and blocks of them
sequential_users       two arms user by user: ratios of rates, variance between users
sequential_bets        bounded means by betting, exact at any size
sequential_counts      shares of independent trials; whether users were split as they should be
sequential_histograms  quantiles between a histogram's bounds

Everything below is for data that are complete when they are looked at:

sums          exact sums of per-user values over groups, and under bootstrap weights
bootstrap     user_bootstrap, group_differences, group_ratios, paired_ratios, pooled_means -> Intervals
compared_shares  share_differences, share_ratios: shares of totals that are sampled too -> Intervals
studentised   from an estimate and its resamples to limits, alone or simultaneous over families
multiplicity  holm, benjamini_hochberg
power         minimum_detectable_effect, more_users_needed
decisions     decide: pass, fail or insufficient
"""

from components.statistics.bootstrap import (
    group_differences,
    group_ratios,
    paired_ratios,
    pooled_means,
    user_bootstrap,
)
from components.statistics.compared_shares import share_differences, share_ratios
from components.statistics.decisions import Answer, Direction, decide
from components.statistics.gaps import SummedGap, summed_gap
from components.statistics.intervals import Intervals
from components.statistics.multiplicity import benjamini_hochberg, holm
from components.statistics.pooling import Shrunk, pool_small, shrink
from components.statistics.power import minimum_detectable_effect, more_users_needed

__all__ = [
    "Answer",
    "Direction",
    "Intervals",
    "Shrunk",
    "SummedGap",
    "benjamini_hochberg",
    "decide",
    "group_differences",
    "group_ratios",
    "holm",
    "minimum_detectable_effect",
    "more_users_needed",
    "paired_ratios",
    "pool_small",
    "pooled_means",
    "share_differences",
    "share_ratios",
    "shrink",
    "summed_gap",
    "user_bootstrap",
]
