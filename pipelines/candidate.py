"""The `candidate` pipeline: from an event log to a card and a verdict that is enforced. It waits for nobody.

Measuring and deciding are steps of their own that always succeed, because Kubeflow drops the outputs of a failed task
(kubeflow/pipelines#12425) and a blocked release without its evidence cannot be reviewed. Only `enforce` fails.
"""

from typing import Any

from kfp import dsl

from components.card.component import write_card
from components.dataset.component import build_dataset
from components.events.component import take_snapshot
from components.evidence.component import measure_features, measure_groups_and_drift, measure_ranking, measure_serving
from components.ranker.component import train_and_rank
from components.verdict.component import decide, enforce, freeze_policy
from pipelines.placing import LAPTOP, StepOptions, place_step

COMPONENTS: dict[str, Any] = {
    "policy": freeze_policy,
    "snapshot": take_snapshot,
    "dataset": build_dataset,
    "ranker": train_and_rank,
    "measure-ranking": measure_ranking,
    "measure-groups-and-drift": measure_groups_and_drift,
    "measure-features": measure_features,
    "measure-serving": measure_serving,
    "verdict": decide,
    "card": write_card,
    "enforce": enforce,
}
"""The component of each of `pipelines.candidate_steps.STEPS`."""


def candidate_pipeline(options: StepOptions = LAPTOP) -> Any:
    """The `candidate` pipeline with its steps set up by `options`."""

    def place(task: dsl.PipelineTask, *, reads_storage: bool = False) -> dsl.PipelineTask:
        return place_step(task, options, reads_storage=reads_storage)

    @dsl.pipeline(name="rankgate-candidate", description="From an event log to a model card and an enforced verdict.")
    def candidate(
        contract: str,
        policy_files: dict,  # type: ignore[type-arg]  # kfp reads the bare type
        asked_at: str,
        as_of: str,
        facts: dict,  # type: ignore[type-arg]  # kfp reads the bare type
        sources: dict = {},  # type: ignore[type-arg]  # noqa: B006  kfp copies it
        incumbent: str = "",
        first_release: bool = True,
        seed: int = 0,
        threads: int = 2,
        code: str = "",
    ) -> None:
        """Build a dataset, train a ranker, measure it, decide, write the card, enforce.

        Args:
            contract: Dataset contract, YAML text with absolute or s3:// paths.
            policy_files: Text of the policy, its suite and samples, by relative path.
            asked_at: When the run was asked for, ISO 8601.
            as_of: Moment the log is judged from, ISO 8601.
            facts: What only the run knows, for the card.
            sources: Digest of each source file, by its path.
            incumbent: Folder of the incumbent's ranker, or its s3:// name with its digest; empty for a first release.
            first_release: True where there is no incumbent.
            seed: Seed of everything random.
            threads: Threads to train with.
            code: Digest of the installed rankgate.
        """
        frozen = place(freeze_policy(policy_files=policy_files, frozen_at=asked_at, code=code))
        policy = frozen.outputs["policy"]
        taken = place(
            take_snapshot(contract=contract, as_of=as_of, sources=sources, code=code), reads_storage=True
        ).after(frozen)
        # The same contract over a longer log is a new snapshot; only digests of the sources make a step's repetition safe.
        taken.set_caching_options(False)
        snapshot = taken.outputs["snapshot"]
        dataset = place(build_dataset(snapshot=snapshot, seed=seed, code=code)).outputs["dataset"]
        trained = place(
            train_and_rank(policy=policy, dataset=dataset, incumbent=incumbent, seed=seed, threads=threads, code=code),
            reads_storage=True,
        )
        ranker, rankings = trained.outputs["ranker"], trained.outputs["rankings"]
        ranking_evidence = place(
            measure_ranking(snapshot=snapshot, dataset=dataset, rankings=rankings, seed=seed, code=code)
        ).outputs["evidence"]
        group_evidence = place(
            measure_groups_and_drift(
                dataset=dataset,
                ranker=ranker,
                rankings=rankings,
                ranking_evidence=ranking_evidence,
                seed=seed,
                code=code,
            )
        ).outputs["evidence"]
        feature_evidence = place(
            measure_features(snapshot=snapshot, dataset=dataset, ranker=ranker, rankings=rankings, seed=seed, code=code)
        ).outputs["evidence"]
        serving_evidence = place(
            measure_serving(dataset=dataset, ranker=ranker, rankings=rankings, seed=seed, code=code)
        ).outputs["evidence"]
        verdict = place(
            decide(
                policy=policy,
                ranking_evidence=ranking_evidence,
                group_evidence=group_evidence,
                feature_evidence=feature_evidence,
                serving_evidence=serving_evidence,
                first_release=first_release,
                code=code,
            )
        ).outputs["verdict"]
        card = place(
            write_card(
                snapshot=snapshot,
                dataset=dataset,
                ranker=ranker,
                rankings=rankings,
                ranking_evidence=ranking_evidence,
                group_evidence=group_evidence,
                feature_evidence=feature_evidence,
                serving_evidence=serving_evidence,
                policy=policy,
                verdict=verdict,
                facts=facts,
                code=code,
            )
        ).outputs["card"]
        # A cached success must not stand in for an enforcement.
        place(enforce(verdict=verdict, card=card)).set_caching_options(False)

    return candidate
