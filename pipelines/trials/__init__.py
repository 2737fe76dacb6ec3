"""Trials: how often do the gates block what is clean, and how often do they let a harm through?

    world + seed -> base (an honest run, made by the rooms' own functions) -> harm planted at a strength
        -> evidence measured again -> policy -> record -> tally with intervals -> docs/trials.md

A trial calls what a run calls, in one process and without Kubeflow: the same snapshot, dataset, ranker, rankings, evidence
and judgement. Peers' defaults judge the very same data beside it.
"""
