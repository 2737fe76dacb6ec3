"""The evidence room as two pipeline steps, one a heavy library: measuring always succeeds, whatever it finds."""

from kfp import dsl

from components.artifacts.image import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def measure_ranking(
    snapshot: dsl.Input[dsl.Dataset],
    dataset: dsl.Input[dsl.Dataset],
    rankings: dsl.Input[dsl.Dataset],
    seed: int,
    code: str,
    evidence: dsl.Output[dsl.Artifact],
) -> None:
    """Measure the data, ranking quality, calibration and providers' exposure.

    Args:
        snapshot: The snapshot.
        dataset: The dataset.
        rankings: What each system shows for each held-out request.
        seed: Seed of the bootstrap.
        code: Digest of the installed rankgate.
        evidence: Evidence for data, quality, calibration and fairness-providers.
    """
    from components.artifacts.steps import Step

    with Step(
        "measure-ranking",
        inputs={"snapshot": snapshot, "dataset": dataset, "rankings": rankings},
        parameters={"seed": seed, "code": code},
        outputs={"evidence": evidence},
    ) as step:
        if step.restored:
            return
        from pathlib import Path

        from components.evidence.calibration import measure_calibration
        from components.evidence.data import measure_data
        from components.evidence.exposure import measure_provider_fairness
        from components.evidence.quality import measure_quality

        step.imported()
        out, data, ranked = step.out("evidence"), Path(dataset.path), Path(rankings.path)
        step.progress("data")
        measure_data(Path(snapshot.path), data, out=out)
        step.progress("ranking quality")
        measure_quality(data, ranked, out=out, seed=seed)
        step.progress("calibration")
        measure_calibration(data, ranked, out=out, seed=seed)
        step.progress("exposure of providers")
        measure_provider_fairness(data, ranked, out=out, seed=seed)


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def measure_groups_and_drift(
    dataset: dsl.Input[dsl.Dataset],
    ranker: dsl.Input[dsl.Model],
    rankings: dsl.Input[dsl.Dataset],
    ranking_evidence: dsl.Input[dsl.Artifact],
    seed: int,
    code: str,
    evidence: dsl.Output[dsl.Artifact],
) -> None:
    """Measure quality by group of users (Fairlearn) and drift (Evidently).

    One step, because both load scikit-learn and importing it twice costs more than either measurement.

    Args:
        dataset: The dataset.
        ranker: The trained ranker, for the importance of its features.
        rankings: What each system shows for each held-out request.
        ranking_evidence: Evidence that holds the per-user values of ranking quality.
        seed: Seed of the bootstrap.
        code: Digest of the installed rankgate.
        evidence: Evidence for fairness-users and drift.
    """
    from components.artifacts.steps import Step

    with Step(
        "measure-groups-and-drift",
        inputs={"dataset": dataset, "ranker": ranker, "rankings": rankings, "quality": ranking_evidence},
        parameters={"seed": seed, "code": code},
        outputs={"evidence": evidence},
    ) as step:
        if step.restored:
            return
        from pathlib import Path

        from components.evidence.drift import measure_drift
        from components.evidence.fairness import measure_user_fairness

        step.imported()
        out, data, ranked = step.out("evidence"), Path(dataset.path), Path(rankings.path)
        step.progress("quality by group of users")
        measure_user_fairness(data, ranked, Path(ranking_evidence.path), out=out, seed=seed)
        step.progress("drift")
        measure_drift(data, Path(ranker.path), ranked, out=out, seed=seed)


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def measure_features(
    snapshot: dsl.Input[dsl.Dataset],
    dataset: dsl.Input[dsl.Dataset],
    ranker: dsl.Input[dsl.Model],
    rankings: dsl.Input[dsl.Dataset],
    seed: int,
    code: str,
    evidence: dsl.Output[dsl.Artifact],
) -> None:
    """Measure what the features know that they must not: the future, the label, sensitive attributes.

    Args:
        snapshot: The snapshot.
        dataset: The dataset.
        ranker: The trained ranker, for its features.
        rankings: What each system shows for each held-out request.
        seed: Seed of the bootstrap and of every draw.
        code: Digest of the installed rankgate.
        evidence: Evidence for leakage and proxies.
    """
    from components.artifacts.steps import Step

    with Step(
        "measure-features",
        inputs={"snapshot": snapshot, "dataset": dataset, "ranker": ranker, "rankings": rankings},
        parameters={"seed": seed, "code": code},
        outputs={"evidence": evidence},
    ) as step:
        if step.restored:
            return
        from pathlib import Path

        from components.evidence.leakage import measure_leakage
        from components.evidence.proxies import measure_proxies

        step.imported()
        out, data, ranked = step.out("evidence"), Path(dataset.path), Path(rankings.path)
        measure_leakage(Path(snapshot.path), data, ranked, out=out, seed=seed, progress=step.progress)
        measure_proxies(data, Path(ranker.path), ranked, out=out, seed=seed, progress=step.progress)


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def measure_serving(
    dataset: dsl.Input[dsl.Dataset],
    ranker: dsl.Input[dsl.Model],
    rankings: dsl.Input[dsl.Dataset],
    seed: int,
    code: str,
    evidence: dsl.Output[dsl.Artifact],
) -> None:
    """Start the service with the candidate, and measure whether it answers rightly, in time, within its memory.

    Args:
        dataset: The dataset.
        ranker: The trained ranker, as a release would serve it.
        rankings: What each system shows for each held-out request.
        seed: Seed of the draws of requests.
        code: Digest of the installed rankgate.
        evidence: Evidence for servability.
    """
    from components.artifacts.steps import Step

    with Step(
        "measure-serving",
        inputs={"dataset": dataset, "ranker": ranker, "rankings": rankings},
        parameters={"seed": seed, "code": code},
        outputs={"evidence": evidence},
    ) as step:
        if step.restored:
            return
        from pathlib import Path

        from components.evidence.servability import measure_servability

        step.imported()
        measure_servability(
            Path(dataset.path),
            Path(ranker.path),
            Path(rankings.path),
            out=step.out("evidence"),
            seed=seed,
            progress=step.progress,
        )
