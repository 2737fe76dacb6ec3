"""What a run was made with: versions, interpreter, machine, threads and code, recorded when it starts.

The record lies in the run's folder (environment.json) and never in an artefact: the same inputs give the same bytes on every
machine that computes alike, and where they do not, this says in what the machines differ.
"""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from components.artifacts import documents
from components.artifacts.digests import digest_file, digest_json
from pipelines.request import code_files

SCHEMA_VERSION = 1
ENVIRONMENT_FILE = "environment.json"

# All that computes, reads, writes or words something in an artefact; the rest of the lock cannot reach one.
_PACKAGES = (
    "bentoml", "duckdb", "evidently", "fairlearn", "jinja2", "kfp", "markdown-it-py", "narwhals", "numpy", "pandas", "plotly",
    "pyarrow", "pydantic", "pydantic-core", "pyyaml", "scikit-learn", "scipy", "statsmodels", "tzdata", "xgboost", "xgboost-cpu",
)  # fmt: skip
_THREAD_VARIABLES = ("MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Vector units that numeric libraries choose their kernels by; the other flags of a CPU change no figure.
_VECTOR_FLAGS = ("asimd", "avx", "amx", "f16c", "fma", "sse", "ssse", "sve")
_LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
_PROCESSORS = Path("/proc/cpuinfo")

Topic = Literal["library", "python", "threads", "machine", "code", "lock"]
TOPICS: tuple[Topic, ...] = ("code", "library", "python", "threads", "machine", "lock")
"""In the order in which they are likely to be why bytes differ."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where and with what steps ran. Empty strings are what the system does not tell."""

    python: str
    """Implementation and version, such as `CPython 3.11.7`."""
    system: str
    """Operating system and C library, such as `Linux glibc 2.36`."""
    machine: str
    """Such as `x86_64`."""
    processor: str
    vector_flags: tuple[str, ...]
    processors: int
    """Those that the process may run on."""
    threads: int
    """That the run trains with."""
    thread_variables: dict[str, str]
    libraries: dict[str, str]
    lock: str
    """sha256 of requirements.lock; empty where rankgate is installed without it."""
    code: str
    """Digest of rankgate's own source, without the libraries' versions."""
    files: dict[str, str]
    """First 16 digits of the sha256 of each source file: enough to tell which has changed."""


@dataclass(frozen=True, slots=True)
class Environments:
    """A run's environments: one, unless it was stopped and went on in another."""

    schema_version: int
    starts: tuple[Environment, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """One thing that is otherwise now; `then` and `now` are empty where there is none of it."""

    topic: Topic
    name: str
    then: str
    now: str

    def __str__(self) -> str:
        return f"{self.name}: {self.then or 'none'} then, {self.now or 'none'} now"


def this_environment(*, threads: int) -> Environment:
    """The environment of this process, for a run that trains with so many threads."""
    files = code_files()
    libraries = {}
    for name in _PACKAGES:
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            continue
    processor, flags = _processor()
    return Environment(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=" ".join(filter(None, (platform.system(), *platform.libc_ver(sys.executable)))),
        machine=platform.machine(),
        processor=processor,
        vector_flags=flags,
        processors=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        threads=threads,
        thread_variables={name: os.environ[name] for name in _THREAD_VARIABLES if os.environ.get(name)},
        libraries=libraries,
        lock=digest_file(_LOCK) if _LOCK.is_file() else "",
        code=digest_json(files),
        files={name: digest[:16] for name, digest in files.items()},
    )


def record_environment(folder: Path, environment: Environment) -> None:
    """Write down that a run in `folder` starts, or goes on, here; the same environment is written once."""
    held = read_environments(folder)
    if held is None or environment not in held.starts:
        starts = (*(held.starts if held else ()), environment)
        documents.save(Environments(SCHEMA_VERSION, starts), folder / ENVIRONMENT_FILE)


def read_environments(folder: Path) -> Environments | None:
    """The environments of the run in `folder`; None for a run older than the record.

    Raises:
        InputError: If the record cannot be read.
    """
    path = folder / ENVIRONMENT_FILE
    return documents.load(Environments, path) if path.exists() else None


def changes(then: Environment, now: Environment) -> tuple[Changed, ...]:
    """What differs between two environments, likeliest cause first."""
    found = [
        *_pairs("library", then.libraries, now.libraries),
        *_pairs("code", then.files, now.files),
        *_pairs("threads", then.thread_variables, now.thread_variables),
    ]
    for topic, name in (
        ("python", "python"),
        ("threads", "threads"),
        ("threads", "processors"),
        ("machine", "system"),
        ("machine", "machine"),
        ("machine", "processor"),
        ("lock", "lock"),
    ):
        one, two = str(getattr(then, name)), str(getattr(now, name))
        if one != two:
            short = 12 if name == "lock" else None
            found.append(Changed(topic, name, one[:short], two[:short]))  # type: ignore[arg-type]  # a Topic, above
    if then.vector_flags != now.vector_flags:
        only = [" ".join(sorted(set(one) - set(two))) for one, two in _both(then.vector_flags, now.vector_flags)]
        found.append(Changed("machine", "vector units that the other lacks", *only))
    return tuple(sorted(found, key=lambda changed: (TOPICS.index(changed.topic), changed.name)))


def _both(then: tuple[str, ...], now: tuple[str, ...]) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    return ((then, now), (now, then))


def _pairs(topic: Topic, then: dict[str, str], now: dict[str, str]) -> list[Changed]:
    return [
        Changed(topic, name, then.get(name, ""), now.get(name, ""))
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]


def _processor() -> tuple[str, tuple[str, ...]]:
    """Model and vector flags of the first processor, where the system tells."""
    try:
        text = _PROCESSORS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor(), ()
    told: dict[str, str] = {}
    for line in text.split("\n\n", 1)[0].splitlines():
        key, _, value = line.partition(":")
        told[key.strip()] = value.strip()
    flags = (told.get("flags") or told.get("Features") or "").split()
    return told.get("model name", ""), tuple(sorted(flag for flag in flags if flag.startswith(_VECTOR_FLAGS)))
