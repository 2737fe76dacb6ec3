"""The verdict room as three pipeline steps: freeze the policy first, decide later, enforce last."""

from kfp import dsl

from components.artifacts.image import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def freeze_policy(
    policy_files: dict,  # type: ignore[type-arg]  # kfp reads the bare type
    frozen_at: str,
    code: str,
    policy: dsl.Output[dsl.Artifact],
) -> None:
    """Run the policy's own suite, then fix the policy before anything is measured.

    Args:
        policy_files: Text of policy.yaml, suite.yaml and samples, by relative path.
        frozen_at: When the run was asked for, ISO 8601.
        code: Digest of the installed rankgate.
        policy: The frozen policy.
    """
    from components.artifacts.steps import Step

    with Step(
        "policy",
        inputs={},
        parameters={"policy_files": policy_files, "frozen_at": frozen_at, "code": code},
        outputs={"policy": policy},
    ) as step:
        if step.restored:
            return
        import tempfile
        from datetime import datetime
        from pathlib import Path

        from components.verdict.bundle import unpack
        from components.verdict.freezing import freeze_policy

        step.imported()
        with tempfile.TemporaryDirectory() as folder:
            freeze_policy(
                unpack(policy_files, Path(folder)), at=datetime.fromisoformat(frozen_at), out=step.out("policy")
            )


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def decide(
    policy: dsl.Input[dsl.Artifact],
    ranking_evidence: dsl.Input[dsl.Artifact],
    group_evidence: dsl.Input[dsl.Artifact],
    feature_evidence: dsl.Input[dsl.Artifact],
    serving_evidence: dsl.Input[dsl.Artifact],
    first_release: bool,
    code: str,
    verdict: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.Markdown],
    figures: dsl.Output[dsl.Metrics],
) -> None:
    """Hold the evidence against the frozen policy. Always succeeds: a refusal is a result.

    Args:
        policy: The frozen policy.
        ranking_evidence: Evidence for data, quality, calibration and fairness-providers.
        group_evidence: Evidence for fairness-users and drift.
        feature_evidence: Evidence for leakage and proxies.
        serving_evidence: Evidence for servability.
        first_release: True where there is no incumbent.
        code: Digest of the installed rankgate.
        verdict: The verdict.
        page: The verdict once more, where the Kubeflow page shows it.
        figures: How many criteria gave which answer, where the Kubeflow page compares runs.
    """
    from pathlib import Path

    from components.artifacts.steps import Step

    with Step(
        "verdict",
        inputs={
            "policy": policy,
            "ranking": ranking_evidence,
            "groups": group_evidence,
            "features": feature_evidence,
            "serving": serving_evidence,
        },
        parameters={"first_release": first_release, "code": code},
        outputs={"verdict": verdict},
    ) as step:
        if not step.restored:
            from components.verdict.decide import decide

            step.imported()
            decide(
                [
                    Path(evidence.path)
                    for evidence in (ranking_evidence, group_evidence, feature_evidence, serving_evidence)
                ],
                Path(policy.path),
                first_release=first_release,
                out=step.out("verdict"),
            )
    from components.verdict.page import publish_verdict

    figures.metadata.update(publish_verdict(Path(verdict.path), Path(page.path)))


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def enforce(verdict: dsl.Input[dsl.Artifact], card: dsl.Input[dsl.Artifact]) -> None:
    """Fail where the verdict blocks, so that the run is red; everything measured has been kept by then.

    Args:
        verdict: The verdict.
        card: The card; required, so that a blocked run always has one.
    """
    from components.artifacts.steps import Step

    with Step("enforce", inputs={"verdict": verdict, "card": card}, parameters={}, outputs={}) as step:
        from pathlib import Path

        from components.verdict.enforce import enforce

        step.imported()
        enforce(Path(verdict.path))
