"""The `release` pipeline: started by an approval, which its first step verifies before anything is built.

    approval, card, verdict, ranker, policy (imported) -> verify -> bento -> manifests, where the image is known

Verifying takes all five and the trusted keys as required inputs, and packaging takes what verifying gives: a forgotten wire
does not compile. Whom to trust is part of the compiled pipeline and no argument of a run, so that who may start a run
cannot bring a key of their own; who may upload a pipeline can, and Kubernetes' RBAC says who that is. The ledger in the
cluster is asked again when a pod is admitted.
"""

from collections.abc import Mapping
from typing import Any

from kfp import dsl

from components.approval.component import verify_release
from components.package.component import build_bento
from components.rollout.component import render_manifests
from pipelines.placing import StepOptions, place_step


def release_pipeline(options: StepOptions, *, trust: Mapping[str, str]) -> Any:
    """The `release` pipeline with its steps set up by `options`, trusting these keys (text by file name) and no others."""
    trusted = dict(trust)

    def place(task: dsl.PipelineTask) -> dsl.PipelineTask:
        return place_step(task, options)

    @dsl.pipeline(name="rankgate-release", description="From an approval to a bento and its manifests.")
    def release(
        run: str,
        approval: str,
        card: str,
        verdict: str,
        ranker: str,
        policy: str,
        image: str = "",
        render: bool = False,
        namespace: str = "ranking",
        code: str = "",
    ) -> None:
        """Verify an approval, build its bento, render its manifests.

        Args:
            run: The run that was approved.
            approval: Place of the folder with the signed envelope and the waivers that it rests on.
            card: Place of the card that was read.
            verdict: Place of the verdict.
            ranker: Place of the ranker.
            policy: Place of the frozen policy.
            image: Image of the bento, pinned by digest; empty before it was made.
            render: Whether to render manifests: an image is known.
            namespace: Where it will serve.
            code: Digest of the installed rankgate.
        """
        kinds = (
            ("approval", approval, dsl.Artifact),
            ("card", card, dsl.Artifact),
            ("verdict", verdict, dsl.Artifact),
            ("ranker", ranker, dsl.Model),
            ("policy", policy, dsl.Artifact),
        )
        given = {}
        for role, place_of_it, kind in kinds:
            importing = dsl.importer(artifact_uri=place_of_it, artifact_class=kind, reimport=True)
            importing.set_display_name(role)
            given[role] = importing.output
        # A waiver may expire and a key may be taken back: what held yesterday is asked again.
        verified = place(verify_release(run=run, trust=trusted, code=code, **given)).set_caching_options(False)
        let_out = verified.outputs["release"]
        package = place(
            build_bento(
                release=let_out, approval=given["approval"], card=given["card"], ranker=given["ranker"], code=code
            )
        ).outputs["package"]
        with dsl.If(render == True, name="image-known"):  # noqa: E712  kfp draws the comparison
            place(render_manifests(release=let_out, package=package, image=image, namespace=namespace, code=code))

    return release
