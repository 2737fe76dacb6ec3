"""The card room as a pipeline step."""

from kfp import dsl

from components.artifacts.image import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def write_card(
    snapshot: dsl.Input[dsl.Dataset],
    dataset: dsl.Input[dsl.Dataset],
    ranker: dsl.Input[dsl.Model],
    rankings: dsl.Input[dsl.Dataset],
    ranking_evidence: dsl.Input[dsl.Artifact],
    group_evidence: dsl.Input[dsl.Artifact],
    feature_evidence: dsl.Input[dsl.Artifact],
    serving_evidence: dsl.Input[dsl.Artifact],
    policy: dsl.Input[dsl.Artifact],
    verdict: dsl.Input[dsl.Artifact],
    facts: dict,  # type: ignore[type-arg]  # kfp reads the bare type
    code: str,
    card: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
) -> None:
    """Write the model card that a reviewer reads and an approval signs.

    Args:
        snapshot: The snapshot.
        dataset: The dataset.
        ranker: The trained ranker.
        rankings: What each system shows for each held-out request.
        ranking_evidence: Evidence for data, quality, calibration and fairness-providers.
        group_evidence: Evidence for fairness-users and drift.
        feature_evidence: Evidence for leakage and proxies.
        serving_evidence: Evidence for servability.
        policy: The frozen policy.
        verdict: The verdict.
        facts: What only the run knows: its name, who asked and when, the incumbent and what that was made of.
        code: Digest of the installed rankgate.
        card: The card as HTML, Markdown and JSON.
        page: The card's HTML once more, where the Kubeflow page shows it.
    """
    from components.artifacts.steps import Step

    inputs = {
        "snapshot": snapshot,
        "dataset": dataset,
        "ranker": ranker,
        "rankings": rankings,
        "ranking": ranking_evidence,
        "groups": group_evidence,
        "features": feature_evidence,
        "serving": serving_evidence,
        "policy": policy,
        "verdict": verdict,
    }
    with Step("card", inputs=inputs, parameters={"facts": facts, "code": code}, outputs={"card": card}) as step:
        if not step.restored:
            from pathlib import Path

            from components.card.build import EVIDENCE_ROLES, CardSources, write_card

            step.imported()
            places = {role: Path(artifact.path) for role, artifact in inputs.items()}
            evidence = tuple(places.pop(role) for role in EVIDENCE_ROLES)
            sources = CardSources.of(**places, evidence=evidence, code=code, digests=step.digests, facts=facts)
            write_card(sources, out=step.out("card"))
    step.publish(card, "card.html", page)
