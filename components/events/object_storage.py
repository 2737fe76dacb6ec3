"""S3-compatible object storage through PyArrow's client: what a path or glob names, an object's identity, its bytes.

DuckDB's own client needs an extension that is downloaded at run time. The usual variables are heard: AWS_ENDPOINT_URL_S3 or
AWS_ENDPOINT_URL, AWS_REGION or AWS_DEFAULT_REGION, and whatever AWS's own chain takes credentials from. Where none are
named anywhere, requests are anonymous instead of asking the network for some.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from components.artifacts.digests import digest_json
from components.errors import InputError

SCHEME = "s3://"
_COPY_BYTES = 8 << 20
_CONNECT_SECONDS, _REQUEST_SECONDS, _ATTEMPTS = 10, 60, 3
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def find_objects(place: str) -> list[str]:
    """bucket/key of every object that an s3:// path or glob names, ascending. `*` stays within a level, `**` does not.

    Raises:
        InputError: If the storage cannot be reached or read, or holds no such object.
    """
    from pyarrow import fs

    wanted = place.removeprefix(SCHEME)
    with _telling(place):
        if glob.has_magic(wanted):
            fixed = re.split(r"[*?\[]", wanted, maxsplit=1)[0].rpartition("/")[0]
            if not fixed:
                raise InputError(
                    f"{place}: found a pattern in the bucket's name; needed s3://bucket/ before any * or ?."
                )
            infos = _client().get_file_info(fs.FileSelector(fixed, allow_not_found=True, recursive=True))
            files = [info.path for info in infos if info.type == fs.FileType.File]
            paths = [path for path in files if matches(path.split("/"), wanted.split("/"))]
        else:
            info = _client().get_file_info(wanted)
            paths = [info.path] if info.type == fs.FileType.File else []
    if not paths:
        raise InputError(
            f"{place}: found no object; needed at least one. Check the bucket, the key and AWS_ENDPOINT_URL; "
            "a folder is named by a pattern such as events/*.parquet."
        )
    return sorted(paths)


def digest_object(path: str) -> str:
    """Identity of an object's content without reading it: sha256 of its ETag and size.

    Raises:
        InputError: If it cannot be reached.
    """
    with _telling(SCHEME + path):
        client = _client()
        info = client.get_file_info(path)
        with client.open_input_stream(path) as stream:
            metadata = {str(key).lower(): value for key, value in (stream.metadata() or {}).items()}
    etag = metadata.get("etag", b"").decode().strip('"')
    # Storage without ETags still tells when an object was written.
    return digest_json({"size": info.size, "etag": etag} if etag else {"size": info.size, "mtime_ns": info.mtime_ns})


def copy_object(path: str, place: Path) -> None:
    """Copy an object's bytes to a new file.

    Raises:
        InputError: If it cannot be reached or read to its end.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with _telling(SCHEME + path), _client().open_input_stream(path) as stream, place.open("wb") as out:
        while chunk := stream.read(_COPY_BYTES):
            out.write(chunk)


def has_objects(place: str) -> bool:
    """Whether there is an object at exactly this s3:// path.

    Raises:
        InputError: If the storage cannot be reached.
    """
    from pyarrow import fs

    with _telling(place):
        found: bool = _client().get_file_info(place.removeprefix(SCHEME)).type == fs.FileType.File
    return found


def store_object(content: BinaryIO, place: str) -> None:
    """Write one object, whole or not at all; the bucket must exist.

    Raises:
        InputError: If the storage cannot be reached or written.
    """
    with _telling(place, "written", "write"), _client().open_output_stream(place.removeprefix(SCHEME)) as out:
        while chunk := content.read(_COPY_BYTES):
            out.write(chunk)


@contextmanager
def _telling(place: str, what: str = "read", needed: str = "read") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise InputError(
            f"{place}: cannot be {what} ({reason}); needed {needed} access. "
            "Check AWS_ENDPOINT_URL, AWS_REGION and the AWS credentials."
        ) from error


def _client() -> Any:
    from pyarrow import fs

    options: dict[str, Any] = {
        "region": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        "connect_timeout": _CONNECT_SECONDS,
        "request_timeout": _REQUEST_SECONDS,
        "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    }
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        address = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        options |= {"endpoint_override": address.netloc, "scheme": address.scheme}
    if not _has_credentials():
        options["anonymous"] = True
    return fs.S3FileSystem(**options)


def _has_credentials() -> bool:
    shared = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
    return any(os.environ.get(name) for name in _CREDENTIALS) or shared.is_file()


def matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the levels of a path are what the levels of a shell pattern mean, by the rules of Python's glob on disk."""
    if not pattern:
        return not path
    first, rest = pattern[0], pattern[1:]
    if first == "**" and not rest:
        return bool(path) and not any(level.startswith(".") for level in path)
    if first == "**":
        deeper = bool(path) and not path[0].startswith(".") and matches(path[1:], pattern)
        return deeper or matches(path, rest)
    # Hidden names are only meant by patterns that begin with a dot themselves.
    meant = bool(path) and (first.startswith(".") or not path[0].startswith("."))
    return meant and fnmatchcase(path[0], first) and matches(path[1:], rest)
