"""The exposure log of a folder as it grows: each list once, in whatever process and whatever file it is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from components.serving.exposure_files import Shown, files_in, shown_in


class Tail:
    """Remembers how far each file was read. Begun anew, it reads everything again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[str, int] = {}

    def new(self) -> Iterator[Shown]:
        """The lists that were written since the last time; what is no record is passed over.

        Raises:
            InputError: If the folder cannot be listed. One that is not there yet is empty.
        """
        present = {path.name: path for path in files_in(self._folder)}
        # What made room for others is gone for good.
        self._offsets = {name: offset for name, offset in self._offsets.items() if name in present}
        for name, path in present.items():
            try:
                stream = path.open("rb")
            except FileNotFoundError:
                continue
            with stream:
                offset = self._offsets.get(name, 0)
                stream.seek(offset)
                for line in stream:
                    if not line.endswith(b"\n"):
                        # Somebody is writing it.
                        break
                    offset += len(line)
                    if (shown := shown_in(line)) is not None:
                        yield shown
                self._offsets[name] = offset
