"""The steps of the `candidate` pipeline, in the order of the data's flow, as they call themselves in progress and timings.

Apart from `pipelines.candidate`, so that the command line can draw them without importing kfp.
"""

STEPS = (
    "policy",
    "snapshot",
    "dataset",
    "ranker",
    "measure-ranking",
    "measure-groups-and-drift",
    "measure-features",
    "measure-serving",
    "verdict",
    "card",
    "enforce",
)
