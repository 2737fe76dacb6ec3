"""The process that drives the `candidate` pipeline through `kfp.local`: python -m pipelines.local_steps RUN_FOLDER ROOT.

A process of its own, because kfp prints every step's output to its standard output and logs to the root logger; both
belong in the run's log, while the command that started it draws progress.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from components.artifacts import documents
from pipelines.request import RunRequest, pipeline_arguments


def main() -> int:
    """Runs the pipeline of one request; 0 where every step succeeded."""
    folder, root, incumbent = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    stop_with_parent()
    request = documents.load(RunRequest, folder / "request.json")

    from kfp import local

    from pipelines.candidate import candidate_pipeline

    # Not raise_on_error: the failure that counts is the one that the step itself wrote down.
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(root),
        raise_on_error=False,
        enable_caching=False,
    )
    candidate_pipeline()(**pipeline_arguments(request, incumbent=incumbent))
    return 0


def stop_with_parent(last: Callable[[], None] = lambda: None) -> None:
    """End this process and its steps when the command that started them is gone, however it went; `last` is done before."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        last()
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
