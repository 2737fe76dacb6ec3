"""The events room as a pipeline step."""

from kfp import dsl

from components.artifacts.image import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def take_snapshot(
    contract: str,
    as_of: str,
    sources: dict,  # type: ignore[type-arg]  # kfp reads the bare type
    code: str,
    snapshot: dsl.Output[dsl.Dataset],
) -> None:
    """Validate the team's tables under their contract and keep them, content-addressed.

    Args:
        contract: Dataset contract, YAML text with absolute or s3:// paths.
        as_of: Moment the log is judged from, ISO 8601.
        sources: Digest of each source file, so that a changed file is a changed step.
        code: Digest of the installed rankgate.
        snapshot: The snapshot.
    """
    from components.artifacts.steps import Step

    with Step(
        "snapshot",
        inputs={},
        parameters={"contract": contract, "as_of": as_of, "sources": sources, "code": code},
        outputs={"snapshot": snapshot},
    ) as step:
        if step.restored:
            return
        from datetime import datetime
        from pathlib import Path

        from components.events.declaration import parse_contract
        from components.events.snapshot import take_snapshot

        step.imported()
        take_snapshot(
            parse_contract(contract, subject="dataset contract"),
            base=Path("/"),
            as_of=datetime.fromisoformat(as_of),
            out=step.out("snapshot"),
            progress=step.progress,
        )
