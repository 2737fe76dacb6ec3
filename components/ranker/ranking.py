"""Rank the held-out requests with the candidate, the incumbent and the baselines: the very same requests, one folder.

`logged`: each system re-orders what was shown. `sampled`: each system ranks the whole eligible catalogue; a model does it as
it will serve, by retrieving candidates and scoring those, so what retrieval misses counts against it.

Every system knows history up to the test cut and no more. The retrieval index that a ranker serves with knows the whole
log, so it is not used here: one is fitted up to each cut.
"""

from __future__ import annotations

from pathlib import Path

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.artifacts.progress import Progress, silent
from components.dataset.reading import open_dataset
from components.errors import InputError
from components.ranker.baselines import DESCRIPTIONS
from components.ranker.bench import Bench, baseline_lists, model_lists
from components.ranker.contract import BASELINES, CANDIDATE, INCUMBENT, SCHEMA_VERSION, Rankings, System
from components.ranker.lists import Lists, join_lists
from components.ranker.rankings_tables import write_catalogue, write_drift, write_lists, write_requests
from components.ranker.storage import RankerFolder, open_ranker


def rank(
    dataset: Path,
    ranker: Path,
    *,
    incumbent: Path | None,
    out: Path,
    seed: int,
    threads: int,
    progress: Progress = silent,
) -> Rankings:
    """Write what each system shows for each held-out request.

    Args:
        dataset: A data set's folder.
        ranker: The candidate: a ranker trained on that data set.
        incumbent: Another run's ranker, scored with its own features and rules; None for a first release.
        out: An existing, empty folder.
        seed: Of the random baseline and of sampling rows for drift.
        threads: Threads to score with; they do not change a score.
        progress: Told what is being done.

    Raises:
        InputError: If the candidate was trained on another data set, a ranker has been altered, or the data set lacks a
            feature that a ranker needs.
    """
    data = open_dataset(dataset)
    digest = digest_tree(dataset)
    candidate = open_ranker(ranker, threads=threads)
    if candidate.manifest.dataset != digest:
        raise InputError(
            f"ranker {ranker.name}: it was trained on data set {candidate.manifest.dataset[:12]}; needed {digest[:12]}, "
            "the one to be ranked. Train on this data set, or give this ranker as the incumbent."
        )
    bench = Bench.of(data, seed=seed)
    lists: dict[str, Lists] = {}
    progress("ranking with the candidate")
    on_validation, reference = model_lists(bench, candidate, "validation")
    on_test, current = model_lists(bench, candidate, "test")
    lists[CANDIDATE] = join_lists([on_validation, on_test])
    systems = [System(CANDIDATE, "candidate", digest_tree(ranker), _description(candidate))]
    if incumbent is not None:
        progress("ranking with the incumbent")
        known = open_ranker(incumbent, threads=threads)
        lists[INCUMBENT] = model_lists(bench, known, "test")[0]
        systems.append(System(INCUMBENT, "incumbent", digest_tree(incumbent), _description(known)))
    # What may not be shown at all may not be shown by a baseline either, or the comparison would be with a forbidden list.
    eligibility = bench.eligibility(candidate)
    for name in BASELINES:
        progress(f"ranking with the baseline {name}")
        lists[name] = baseline_lists(bench, name, eligibility)
        systems.append(System(name, "baseline", "", DESCRIPTIONS[name]))
    progress("writing rankings")
    write_lists(lists, bench, out=out)
    write_requests(bench, out=out)
    eligible = write_catalogue(bench, out=out)
    write_drift({"validation": reference, "test": current}, candidate.manifest.features, bench, out=out)
    test = bench.requests("test")
    rankings = Rankings(
        schema_version=SCHEMA_VERSION,
        dataset=digest,
        ranker=systems[0].digest,
        mode=data.manifest.mode,
        systems=tuple(systems),
        depth=bench.depth,
        cutoffs=data.manifest.cutoffs,
        test_requests=len(test),
        test_users=len(set(test.users.tolist())),
        catalogue=eligible,
    )
    documents.save(rankings, out / "rankings.json")
    return rankings


def _description(ranker: RankerFolder) -> str:
    manifest = ranker.manifest
    unbiased = ", corrected for position" if manifest.position_bias else ""
    found = f"LambdaMART ({manifest.objective}{unbiased}), {manifest.trees} trees, {len(manifest.features)} features."
    return f"{found} Measured without its exploration slot." if manifest.rerank.exploration else found
