"""The package room as a pipeline step."""

from kfp import dsl

from components.artifacts.image import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def build_bento(
    release: dsl.Input[dsl.Artifact],
    approval: dsl.Input[dsl.Artifact],
    card: dsl.Input[dsl.Artifact],
    ranker: dsl.Input[dsl.Model],
    code: str,
    package: dsl.Output[dsl.Artifact],
) -> None:
    """Build and export the bento of a verified release, with its bill of materials.

    Args:
        release: What the approval lets out; there is none without a verified approval.
        approval: Folder of the signed envelope.
        card: The approved card.
        ranker: The approved ranker.
        code: Digest of the installed rankgate.
        package: The bento.
    """
    from components.artifacts.steps import Step

    inputs = {"release": release, "approval": approval, "card": card, "ranker": ranker}
    with Step("package", inputs=inputs, parameters={"code": code}, outputs={"package": package}) as step:
        if step.restored:
            return
        import tempfile
        from pathlib import Path

        from components.approval.approve import APPROVAL_FILE
        from components.approval.contract import Release
        from components.approval.released import RELEASE_FILE
        from components.artifacts import documents
        from components.artifacts.project import project_path
        from components.package.bento import build_package

        step.imported()
        with tempfile.TemporaryDirectory(prefix="rankgate-bentoml-") as home:
            build_package(
                Path(ranker.path),
                Path(approval.path) / APPROVAL_FILE,
                documents.load(Release, Path(release.path) / RELEASE_FILE),
                card=Path(card.path),
                lock=project_path("requirements.lock"),
                bentoml_home=Path(home),
                out=step.out("package"),
                progress=step.progress,
            )
