"""The ranker room as a pipeline step."""

from kfp import dsl

from components.artifacts.image import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def train_and_rank(
    policy: dsl.Input[dsl.Artifact],
    dataset: dsl.Input[dsl.Dataset],
    incumbent: str,
    seed: int,
    threads: int,
    code: str,
    ranker: dsl.Output[dsl.Model],
    rankings: dsl.Output[dsl.Dataset],
) -> None:
    """Train the ranker, then rank the held-out requests with it, the incumbent and the baselines.

    One step, because training and ranking load the same library and the same arrays.

    Args:
        policy: Frozen policy: nothing is trained before the rules it will be judged by are fixed; and the re-rank rules.
        dataset: The dataset.
        incumbent: Folder of the incumbent's ranker, or its name in object storage with its digest; empty for a first release.
        seed: Seed of training and of the random baseline.
        threads: Threads to train with.
        code: Digest of the installed rankgate.
        ranker: The trained ranker.
        rankings: What each system shows for each held-out request.
    """
    from pathlib import Path

    from components.artifacts.steps import Step
    from components.events.object_folders import at_hand, digest_named

    with Step(
        "ranker",
        inputs={"policy": policy, "dataset": dataset},
        parameters={
            "incumbent": digest_named(incumbent),
            "seed": seed,
            "threads": threads,
            "code": code,
        },
        outputs={"ranker": ranker, "rankings": rankings},
    ) as step:
        if step.restored:
            return
        from components.ranker.declared_rules import read_rules
        from components.ranker.ranking import rank
        from components.ranker.train import train_ranker

        step.imported()
        data = Path(dataset.path)
        train_ranker(
            data,
            out=step.out("ranker"),
            seed=seed,
            threads=threads,
            rerank=read_rules(Path(policy.path)),
            progress=step.progress,
        )
        with at_hand(incumbent) as released:
            rank(
                data,
                step.out("ranker"),
                incumbent=released,
                out=step.out("rankings"),
                seed=seed,
                threads=threads,
                progress=step.progress,
            )
