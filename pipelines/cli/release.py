"""`rankgate keys`, `approve`, `refuse`, `ask`, `verify`, `package`, `manifests` and `serve`: from a decision to a service."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from components.approval.contract import Release
from components.artifacts import documents
from components.errors import InputError
from pipelines.cli.ledger import approve_there, cluster_options
from pipelines.cli.options import json_option, out_option
from pipelines.ledger import ClusterTarget
from pipelines.runs import Home


def _trusting(*, required: bool, of: str) -> Callable[..., Any]:
    return click.option(
        "--trust",
        "trusted",
        type=click.Path(path_type=Path),
        multiple=True,
        required=required,
        help=f"Public key, or folder of them, of {of}.",
    )


_trust = _trusting(required=True, of="a reviewer whose word counts")


@click.group()
def keys() -> None:
    """Make a signing key."""


@keys.command("new")
@click.argument("path", type=click.Path(path_type=Path))
def new(path: Path) -> None:
    """Make an Ed25519 key: the private half at PATH (mode 0600), the public half beside it as PATH.pub."""
    from components.approval.keys import new_key

    public = new_key(path)
    click.echo(f"private key {path} (keep it to yourself)\npublic key  {public} (give it to whoever packages)")


def _decide(
    home: str,
    name: str,
    decision: str,
    key: str,
    approver: str,
    reason: str,
    *,
    as_json: bool,
    trusted: tuple[Path, ...] = (),
) -> None:
    from pipelines.releasing import decide_release

    run = Home(Path(home)).find(name)
    release = decide_release(run, decision=decision, key=key, approver=approver, reason=reason, trusted=trusted)
    if as_json:
        click.echo(json.dumps(documents.as_json(release), indent=2))
        return
    click.echo(f"{release.approval.run}: {release.approval.decision} by {release.approval.approver}")
    _tell_waivers(release)
    click.echo(f"release {release.digest}")


def _tell_waivers(release: Release) -> None:
    for criterion, digest in release.approval.waivers.items():
        click.echo(f"rests on the waiver of {criterion}, {digest[:12]}")


_key = click.option("--key", required=True, help="Private key: a PEM file, or a URI that securesystemslib knows.")
_as = click.option("--as", "approver", required=True, metavar="NAME", help="Who decides; never the submitter.")


@click.command()
@click.argument("name", metavar="RUN", default="latest")
@_key
@_as
@click.option("--reason", default="", help="Why, in a sentence.")
@_trusting(required=False, of="a person who may waive; needed where RUN is blocked and waived")
@cluster_options
@json_option
@click.pass_obj
def approve(
    home: str,
    name: str,
    key: str,
    approver: str,
    reason: str,
    trusted: tuple[Path, ...],
    as_json: bool,
    cluster: ClusterTarget | None,
) -> None:
    """Sign the approval of RUN's card. A blocked run cannot be approved unless all that blocks it is waived.

    With --cluster it comes into the cluster's ledger as well; what you have signed before is not signed again.
    """
    if cluster:
        approve_there(home, name, cluster, key=key, approver=approver, reason=reason, trusted=trusted, as_json=as_json)
        return
    _decide(home, name, "approved", key, approver, reason, as_json=as_json, trusted=trusted)


@click.command()
@click.argument("name", metavar="RUN", default="latest")
@_key
@_as
@click.option("--reason", required=True, help="Why, in a sentence.")
@json_option
@click.pass_obj
def refuse(home: str, name: str, key: str, approver: str, reason: str, as_json: bool) -> None:
    """Sign the refusal of RUN's card."""
    _decide(home, name, "refused", key, approver, reason, as_json=as_json)


@click.command()
@click.argument("name", metavar="RUN", default="latest")
@_key
@_as
@click.option("--reason", "question", required=True, help="The question, which the submitter can answer.")
@json_option
@click.pass_obj
def ask(home: str, name: str, key: str, approver: str, question: str, as_json: bool) -> None:
    """Sign a question about RUN's card. Nothing is released until somebody decides."""
    _decide(home, name, "asked", key, approver, question, as_json=as_json)


@click.command()
@click.argument("name", metavar="RUN", default="latest")
@_trust
@json_option
@click.pass_obj
def verify(home: str, name: str, trusted: tuple[Path, ...], as_json: bool) -> None:
    """Check RUN's approval against the very card, verdict, ranker and policy it was signed over. Exits 4 where it fails."""
    from pipelines.releasing import verify_release

    release = verify_release(Home(Path(home)).find(name), trusted)
    if as_json:
        click.echo(json.dumps(documents.as_json(release), indent=2))
        return
    approval = release.approval
    click.echo(f"{approval.run}: approved by {approval.approver} at {approval.decided_at}, key {release.key_id[:12]}")
    _tell_waivers(release)
    click.echo(f"release {release.digest}")


@click.command()
@click.argument("name", metavar="RUN", default="latest")
@_trust
@json_option
@click.pass_obj
def package(home: str, name: str, trusted: tuple[Path, ...], as_json: bool) -> None:
    """Build the bento of RUN, if a trusted reviewer approved it. Exits 4 where none did."""
    from pipelines.releasing import package_release

    place = Home(Path(home))
    run = place.find(name)
    built, folder = package_release(
        run, place, trusted, progress=lambda message: click.echo(f"{message} ...", err=True)
    )
    if as_json:
        click.echo(json.dumps({**documents.as_json(built), "folder": str(folder)}, indent=2))
        return
    click.echo(f"bento   {built.bento_tag}  {built.size_bytes / 1e6:.1f} MB  {folder / 'ranker.tar'}")
    click.echo(f"release {built.release}")
    keys_given = " ".join(f"--trust {path}" for path in trusted)
    click.echo(
        f"\nNext:\n  rankgate serve {run.name} {keys_given}\n"
        f"  bentoml containerize {built.bento_tag}      (BENTOML_HOME={place.root / 'bentoml'})\n"
        f"  rankgate manifests {run.name} {keys_given} --image REGISTRY/NAME@sha256:... --out DIR",
        err=True,
    )


@click.command()
@click.argument("name", metavar="RUN", default="latest")
@_trust
@click.option("--image", required=True, help="Image of the bento, pinned: registry/name@sha256:...")
@click.option("--namespace", default="ranking", show_default=True)
@click.option("--stable", metavar="RUN", help="Approved run that is in service: this one becomes its canary.")
@click.option("--stable-image", default="", help="Image of the stable run's bento, pinned.")
@click.option("--environment", default="", help="Whose sizes it takes: kind, staging, production (manifests/overlays).")
@out_option
@click.pass_obj
def manifests(
    home: str,
    name: str,
    trusted: tuple[Path, ...],
    image: str,
    namespace: str,
    stable: str | None,
    stable_image: str,
    environment: str,
    out: Path,
) -> None:
    """Render the Kubernetes manifests of RUN's release into a folder for `kubectl apply -k`."""
    from pipelines.releasing import render_release

    place = Home(Path(home))
    overlay = render_release(
        place.find(name),
        trusted,
        image=image,
        namespace=namespace,
        stable=place.find(stable) if stable else None,
        stable_image=stable_image,
        environment=environment,
        out=out,
    )
    click.echo(f"{overlay}\nNext: kubectl apply -k {overlay}")


@click.command()
@click.argument("name", metavar="RUN", default="latest")
@_trust
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
@click.option(
    "--features",
    type=click.Path(path_type=Path),
    help="Folder that rankgate features publish writes into: newer features are taken up as they come.",
)
@click.option(
    "--features-trust",
    type=click.Path(path_type=Path),
    help="Public key, or folder of them, of whoever may publish features; needed beside --features.",
)
@click.pass_obj
def serve(
    home: str, name: str, trusted: tuple[Path, ...], port: int, features: Path | None, features_trust: Path | None
) -> None:
    """Serve RUN's bento on 127.0.0.1, if it was packaged and its approval still holds."""
    from pipelines.features import served_from
    from pipelines.releasing import packaged, verify_release

    said = served_from(features, features_trust)
    place = Home(Path(home))
    run = place.find(name)
    release = verify_release(run, trusted)
    built = packaged(run)
    if built.release != release.digest:
        raise InputError(
            f"run {run.name}: was packaged for release {built.release[:12]}; its approval now is {release.digest[:12]}. "
            f"Package it again: rankgate package {run.name}"
        )
    click.echo(
        f"Serving {built.bento_tag} on http://127.0.0.1:{port} (stop with Ctrl-C). Once /readyz answers, try:\n"
        f"  curl -s http://127.0.0.1:{port}/recommend -H 'Content-Type: application/json' -d '{{\"k\": 5}}'",
        err=True,
    )
    environment = {
        **os.environ,
        "BENTOML_HOME": str(place.root / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "true",
        **said,
    }
    words = ["serve", built.bento_tag, "--host", "127.0.0.1", "--port", str(port), "--timeout-keep-alive", "75"]
    # The service takes this process's place, so that signals and its exit code are its own.
    os.execve(sys.executable, [sys.executable, "-m", "bentoml", *words], environment)  # noqa: S606


COMMANDS = {
    "keys": keys,
    "approve": approve,
    "refuse": refuse,
    "ask": ask,
    "verify": verify,
    "package": package,
    "manifests": manifests,
    "serve": serve,
}
