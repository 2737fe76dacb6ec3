"""The dataset room as a pipeline step."""

from kfp import dsl

from components.artifacts.image import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def build_dataset(
    snapshot: dsl.Input[dsl.Dataset],
    seed: int,
    code: str,
    dataset: dsl.Output[dsl.Dataset],
) -> None:
    """Turn a snapshot into requests x candidates with point-in-time features, labels, groups and a time split.

    Args:
        snapshot: The snapshot.
        seed: Seed of the sampled negatives.
        code: Digest of the installed rankgate.
        dataset: The dataset.
    """
    from components.artifacts.steps import Step

    with Step(
        "dataset",
        inputs={"snapshot": snapshot},
        parameters={"seed": seed, "code": code},
        outputs={"dataset": dataset},
    ) as step:
        if step.restored:
            return
        from pathlib import Path

        from components.dataset.build import build_dataset

        step.imported()
        build_dataset(Path(snapshot.path), out=step.out("dataset"), seed=seed, progress=step.progress)
