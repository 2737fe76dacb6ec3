"""Files that are whole or absent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.artifacts.files import replacing, write_atomically


def test_a_written_file_holds_its_content_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_atomically(tmp_path / "deep" / "file", b"content")
    assert (tmp_path / "deep" / "file").read_bytes() == b"content"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]


def test_a_failed_write_keeps_the_old_content_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_bytes(b"old")

    def write_half() -> None:
        with replacing(place) as beside:
            beside.write_bytes(b"half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert place.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


_WRITER = """
import sys
from pathlib import Path
from components.artifacts.files import write_atomically
place, count = Path(sys.argv[1]), 0
while True:
    count += 1
    write_atomically(place, bytes([count % 256]) * 2_000_000)
"""


@pytest.mark.integration
def test_a_killed_writer_never_leaves_a_mixed_file(tmp_path: Path) -> None:
    place = tmp_path / "file"
    for delay in (0.05, 0.12, 0.2):
        process = subprocess.Popen([sys.executable, "-c", _WRITER, str(place)])
        deadline = time.monotonic() + 20
        while not place.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        content = place.read_bytes()
        assert len(content) == 2_000_000
        assert len(set(content)) == 1
