"""The approval room as a pipeline step: nothing of a release begins before the approval was checked inside the cluster."""

from kfp import dsl

from components.artifacts.image import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def verify_release(
    run: str,
    trust: dict,  # type: ignore[type-arg]  # kfp reads the bare type
    approval: dsl.Input[dsl.Artifact],
    card: dsl.Input[dsl.Artifact],
    verdict: dsl.Input[dsl.Artifact],
    ranker: dsl.Input[dsl.Model],
    policy: dsl.Input[dsl.Artifact],
    code: str,
    release: dsl.Output[dsl.Artifact],
    told: dsl.Output[dsl.Markdown],
) -> None:
    """Check the approval of a run against every byte that it was signed over. Fails where anything does not hold.

    Args:
        run: The run that should be released.
        trust: Text of the public keys whose word counts, by file name.
        approval: Folder of the signed envelope, and of the waivers that it rests on.
        card: The card that was read.
        verdict: The verdict.
        ranker: The ranker that would serve.
        policy: The frozen policy.
        code: Digest of the installed rankgate.
        release: What the approval lets out.
        told: Who let what out, for the Kubeflow page.
    """
    from components.artifacts.steps import Step

    inputs = {"approval": approval, "card": card, "verdict": verdict, "ranker": ranker, "policy": policy}
    parameters = {"run": run, "trust": trust, "code": code}
    with Step("verify", inputs=inputs, parameters=parameters, outputs={"release": release}) as step:
        from pathlib import Path

        from components.approval.released import verify_in_cluster

        step.imported()
        # Not restored, were it ever known: a waiver may have expired since.
        verify_in_cluster(
            {role: Path(artifact.path) for role, artifact in inputs.items()},
            run=run,
            trust=trust,
            out=step.out("release"),
        )
    step.publish(release, "release.md", told)
