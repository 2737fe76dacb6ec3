"""The command line: what it loads, what it says, how it exits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from components.errors import InputError
from pipelines.cli.import_ import import_

_HEAVY = (
    "kfp",
    "pandas",
    "numpy",
    "duckdb",
    "xgboost",
    "evidently",
    "fairlearn",
    "bentoml",
    "sklearn",
    "pydantic",
    "rich",
)
_PROGRAM = [sys.executable, "-m", "pipelines.cli.main"]


def _rankgate(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*_PROGRAM, *words], cwd=cwd, capture_output=True, text=True, check=False)


def test_help_names_every_command_and_loads_no_heavy_library(tmp_path: Path) -> None:
    script = (
        "import sys\nheavy = set(sys.argv[1:])\nsys.argv = ['rankgate', '--help']\n"
        "from pipelines.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print('loaded', sorted(heavy & set(sys.modules)))\n"
    )
    words = [sys.executable, "-c", script, *_HEAVY]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "loaded []" in done.stdout
    for command in ("demo", "import", "run", "show", "compare", "approve", "package", "serve", "compile", "submit"):
        assert f"\n  {command} " in done.stdout


def test_every_command_that_help_names_has_help_of_its_own(tmp_path: Path) -> None:
    from pipelines.cli.main import _COMMANDS

    script = (
        "import sys\nfrom click.testing import CliRunner\nfrom pipelines.cli.main import _COMMANDS, rankgate\n"
        "for name in _COMMANDS:\n"
        "    result = CliRunner().invoke(rankgate, [name, '--help'])\n"
        "    assert result.exit_code == 0, (name, result.output)\n"
        "print(len(_COMMANDS))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(len(_COMMANDS))], done.stderr


def test_a_mistyped_command_is_usage_and_names_the_nearest(tmp_path: Path) -> None:
    done = _rankgate("aprove", cwd=tmp_path)
    assert done.returncode == 2
    assert "Did you mean 'approve'?" in done.stderr


@pytest.mark.parametrize("words", [("run", "absent.yaml"), ("show", "latest"), ("compare", "a", "b"), ("card", "x")])
def test_what_is_not_there_is_bad_input_in_one_paragraph(words: tuple[str, ...], tmp_path: Path) -> None:
    done = _rankgate(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("rankgate: ")


def test_an_error_is_one_json_document_where_json_was_asked_for(tmp_path: Path) -> None:
    done = _rankgate("show", "latest", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert json.loads(done.stdout)["exit_code"] == 2


def test_no_runs_is_an_answer_and_no_error(tmp_path: Path) -> None:
    done = _rankgate("runs", "--json", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)) == (0, [])


def test_an_import_makes_the_folder_that_it_writes_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def written(raw: Path, *, out: Path) -> Path:
        assert raw.name == "raw.parquet"
        assert out.is_dir()
        return out / "dataset.yaml"

    monkeypatch.setattr("components.events.importers.online_retail.import_online_retail", written)
    out = tmp_path / "new" / "retail"
    done = CliRunner().invoke(import_, ["online-retail", "raw.parquet", "--out", str(out)])
    assert done.exit_code == 0, done.output
    (tmp_path / "file").write_text("")
    refused = CliRunner().invoke(import_, ["online-retail", "raw.parquet", "--out", str(tmp_path / "file")])
    assert isinstance(refused.exception, InputError)
    assert "needed a folder to write into" in str(refused.exception)
