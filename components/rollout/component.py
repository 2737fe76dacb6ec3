"""The rollout room as a pipeline step."""

from kfp import dsl

from components.artifacts.image import STEP_IMAGE


@dsl.component(base_image=STEP_IMAGE, install_kfp_package=False)
def render_manifests(
    release: dsl.Input[dsl.Artifact],
    package: dsl.Input[dsl.Artifact],
    image: str,
    namespace: str,
    code: str,
    manifests: dsl.Output[dsl.Artifact],
) -> None:
    """Render the Kubernetes manifests of a packaged release.

    Args:
        release: What the approval lets out.
        package: The bento that the image was made of.
        image: The image of that bento, pinned by digest.
        namespace: Where it will serve.
        code: Digest of the installed rankgate.
        manifests: A folder for `kubectl apply -k`.
    """
    from components.artifacts.steps import Step

    with Step(
        "manifests",
        inputs={"release": release, "package": package},
        parameters={"image": image, "namespace": namespace, "code": code},
        outputs={"manifests": manifests},
    ) as step:
        if step.restored:
            return
        from pathlib import Path

        from components.approval.contract import Release
        from components.approval.released import RELEASE_FILE
        from components.artifacts import documents
        from components.artifacts.project import project_path
        from components.errors import InputError
        from components.package.contract import Package
        from components.rollout.contract import SCHEMA_VERSION, RolloutPlan
        from components.rollout.manifests import render

        step.imported()
        let_out = documents.load(Release, Path(release.path) / RELEASE_FILE)
        built = documents.load(Package, Path(package.path) / "package.json")
        if built.release != let_out.digest:
            raise InputError(
                f"package: was built for release {built.release[:12]}; needed one for {let_out.digest[:12]}. Package it again."
            )
        plan = RolloutPlan(
            schema_version=SCHEMA_VERSION,
            run=let_out.approval.run,
            release=let_out.digest,
            image=image,
            namespace=namespace,
            stable_release="",
            stable_image="",
        )
        render(plan, manifests=project_path("manifests"), out=step.out("manifests"))
