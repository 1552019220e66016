"""The commands: results on stdout, one line on stderr where something is wrong, and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from distill_deploy.cli import export_main, main

Trained = Callable[[str], Path]


@pytest.mark.extra("export")  # noqa: S610
def test_exporting_prints_the_certificate_that_it_wrote(
    trained: Trained, held_out: Callable[[str], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 0; JSON on stdout, the choice and its reason on stderr, size and speed among the figures."""
    (tmp_path / "texts.txt").write_text("\n".join(held_out("llama")) + "\n")
    texts = ["--held-out", str(tmp_path / "texts.txt"), "--max-new-tokens", "12"]
    assert export_main([str(trained("llama")), str(tmp_path / "e"), *texts]) == 0
    said = capsys.readouterr()
    certificate = json.loads(said.out)
    assert certificate == json.loads((tmp_path / "e" / "certificate.json").read_text())
    assert certificate["verified"]
    assert certificate["torch_ms_per_example"] > certificate["runtime_ms_per_example"] > 0
    assert certificate["weights_bytes"] == (tmp_path / "e" / "model.bin").stat().st_size
    assert "ctranslate2: ctranslate2 runs causal models without torch" in said.err

    run = ["run", str(tmp_path / "e")]
    assert main([*run, "abc", "xyz", "--max-new-tokens", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["d e f g", "a b c d"]
    assert main([*run, "abc", "--max-new-tokens", "4", "--stream", "--stop", " f"]) == 0
    assert capsys.readouterr().out == "d e\n"
    assert main([*run, "abc", "--temperature", "3", "--seed", "1"]) == 0
    assert main([*run, "abc", "--stream", "--beams", "2"]) == 1
    assert main([*run, "abc", "--chat"]) == 1
    assert "has no chat template" in capsys.readouterr().err


@pytest.mark.extra("export")  # noqa: S610
def test_an_export_that_agrees_too_little_is_exit_4_unless_that_is_allowed(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused in one line that names what is left; --allow-failed keeps it, and the certificate says so."""
    out = tmp_path / "e"
    asked = [str(trained("llama")), str(out), "--min-agreement", "1.01", "--max-new-tokens", "8"]
    assert export_main(asked) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert "at least 101.00% have to" in said.err
    assert "e.rejected" in said.err
    assert not out.exists()
    assert export_main([*asked, "--allow-failed"]) == 0
    certificate = json.loads(capsys.readouterr().out)
    assert certificate["accepted"]
    assert not certificate["verified"]
    assert main(["verify", str(out)]) == 0
    (out / "runtime.json").write_text("{}")
    assert main(["verify", str(out)]) == 1
    assert "runtime.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (main, ["--version"]),
        (main, ["verify", "--version"]),
        (main, ["run", "--version"]),
        (main, ["export", "--version"]),
        (export_main, ["--version"]),
    ],
)
def test_the_version_is_printed(
    command: Callable[[list[str]], int], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """On stdout, with exit code 0, of the whole and of each command."""
    with pytest.raises(SystemExit) as ended:
        command(arguments)
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == (f"distill-deploy {version('distill-deploy')}\n", "")


def test_the_module_prints_its_version() -> None:
    """``python -m distill_deploy --version``."""
    module = [sys.executable, "-m", "distill_deploy", "--version"]
    said = subprocess.run(module, capture_output=True, text=True, check=True).stdout
    assert said == f"distill-deploy {version('distill-deploy')}\n"


@pytest.mark.parametrize("command", [["run"], ["verify"]])
def test_a_folder_that_is_not_there_is_one_line(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1, nothing on stdout, no traceback."""
    arguments = [*command, str(tmp_path / "none")] + (["text"] if command == ["run"] else [])
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "none" in said.err
