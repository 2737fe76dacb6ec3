"""Runs a program and ends it, with all that it started, when whoever asked for it is gone, however that one ended.

A program of its own, run by its path with nothing but the standard library. Its standard input is a pipe that is never
written to: it ends when the asking process closes it or dies, be it by SIGKILL, which that process could not act on itself.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time

_LOOK_EVERY = 0.1
_END_WITHIN = 8.0


def guard(command: list[str]) -> int:
    """Run the command until it ends or standard input does; its exit code."""
    # The whole group is told to end at once; this process stays until the program, which is its child, has ended. A handler
    # and not SIG_IGN, which the program would inherit.
    signal.signal(signal.SIGTERM, lambda *_: None)
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while program.poll() is None:
        if select.select([sys.stdin], [], [], _LOOK_EVERY)[0]:
            return _end(program)
    return program.returncode


def _end(program: subprocess.Popen[bytes]) -> int:
    program.terminate()
    until = time.monotonic() + _END_WITHIN
    while program.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    # What is left of the group, this process included.
    os.killpg(0, signal.SIGKILL)
    return 1


if __name__ == "__main__":
    sys.exit(guard(sys.argv[1:]))
