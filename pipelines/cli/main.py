"""The command `rankgate`: names every command, loads the code of none until it is called."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from components.errors import RankgateError

# Command -> module that defines it, and the line that `rankgate --help` shows; so that help loads nothing else.
_COMMANDS = {
    "demo": ("run", "Generate a shop's event log and take it from events to a model card."),
    "import": ("import_", "Turn a public data set into tables and a dataset contract."),
    "run": ("run", "Take a dataset contract's tables through every gate to a card and a verdict."),
    "runs": ("inspect", "List runs, newest first."),
    "show": ("inspect", "Show a run: verdict, artefacts, where its time went."),
    "card": ("inspect", "Print where a run's model card is, or open it."),
    "compare": ("inspect", "Compare two runs: what went in, what came out."),
    "replay": ("replay", "Do a run's gates again from pinned inputs, and compare every byte."),
    "policy": ("policy", "Check a policy by its own suite."),
    "trials": ("trials", "Plant known harms in clean runs, and count what the gates say."),
    "keys": ("release", "Make a signing key."),
    "waive": ("waive", "Sign a waiver of a rule that blocks a run, where the policy allows one."),
    "review": ("review", "Read cards and sign decisions in a browser, on this machine."),
    "approve": ("release", "Sign the approval of a run's card."),
    "refuse": ("release", "Sign the refusal of a run's card."),
    "ask": ("release", "Sign a question about a run's card."),
    "verify": ("release", "Check a run's approval against what it was signed over."),
    "ledger": ("ledger", "List the releases that a cluster admits."),
    "revoke": ("ledger", "Revoke a release in a cluster: no new Pod of it is admitted."),
    "package": ("release", "Build the bento of an approved run."),
    "sbom": ("sbom", "Tell what a packaged run is made of: model, data, figures, libraries."),
    "manifests": ("release", "Render the Kubernetes manifests of a release."),
    "score": ("score", "Rank all users of a run into Parquet, resumably."),
    "features": ("features", "Publish newer features for a release in service, list them, go back to earlier ones."),
    "exposures": ("exposures", "Turn what a service has shown into the next run's events."),
    "serve": ("release", "Serve a packaged run on this machine."),
    "canary": ("canary", "Give a release some of the traffic, judge it, promote it or roll it back."),
    "compile": ("kubeflow", "Write the pipeline for Kubeflow, deterministically."),
    "submit": ("kubeflow", "Upload the pipeline to Kubeflow and start a run, or a schedule."),
    "schedules": ("kubeflow", "List Kubeflow's schedules; pause, resume or remove one."),
    "release": ("kubeflow_release", "Start an approved run's release on Kubeflow: verify, bento, manifests."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"pipelines.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = module.COMMANDS[cmd_name]
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            from components.errors import nearest

            raise click.UsageError(f"no command '{args[0]}'. {nearest(args[0], list(_COMMANDS))}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="rankgate", prog_name="rankgate")
@click.option(
    "--home",
    metavar="DIR",
    envvar="RANKGATE_HOME",
    default=".rankgate",
    show_default=True,
    help="Where runs and artefacts are kept.",
)
@click.pass_context
def rankgate(context: click.Context, home: str) -> None:
    """Ship a new ranking model without shipping a harm.

    Exit codes: 0 done, 1 our fault, 2 bad input or usage, 3 blocked by a gate, 4 not approved.
    """
    context.obj = home


def main() -> NoReturn:
    """Run the command line; errors of the rankgate family become one message and their exit code."""
    arguments = sys.argv[1:]
    try:
        code: Any = rankgate.main(args=arguments, prog_name="rankgate", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        click.echo("rankgate: stopped.", err=True)
        sys.exit(130)
    except KeyboardInterrupt:
        click.echo("rankgate: stopped. Finished steps are kept: run the same command again to go on.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        _report(error.format_message(), error.exit_code, arguments, error.show)
        sys.exit(2)
    except RankgateError as error:
        text = f"rankgate: {error}"
        _report(str(error), error.exit_code, arguments, lambda: click.echo(text, err=True))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _report(message: str, exit_code: int, arguments: list[str], show: Callable[[], None]) -> None:
    if "--json" in arguments:
        click.echo(json.dumps({"error": message, "exit_code": exit_code}))
    else:
        show()


if __name__ == "__main__":
    main()
