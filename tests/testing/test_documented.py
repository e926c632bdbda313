"""What docs/testing.rst shows is run as it stands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.documented import ROOT, code_blocks

BLOCKS = code_blocks(ROOT / "docs" / "testing.rst")
ENVIRONMENT = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}


def run(folder: Path, *words: str) -> tuple[int, str]:
    """Status and words of Python in a folder that has all the files."""
    for name, text in BLOCKS.items():
        (folder / name).write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    result = subprocess.run(
        [sys.executable, *words], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=100, check=False
    )
    return result.returncode, result.stdout + result.stderr


def test_there_are_the_files() -> None:
    assert all(name.endswith(".py") for name in BLOCKS)
    assert len(BLOCKS) == 8


def test_tests_pass(tmp_path: Path) -> None:
    status, said = run(tmp_path, "-m", "pytest", "-q", "-p", "mailhub.testing.pytest_plugin")
    assert (status, "22 passed" in said) == (0, True), said


def test_the_script_runs(tmp_path: Path) -> None:
    assert run(tmp_path, "script.py") == (0, "")


def test_the_exam_says_of_the_policy_what_is_shown(tmp_path: Path) -> None:
    shown = next(line for line in (ROOT / "docs" / "testing.rst").read_text().splitlines() if "FAILED" in line)
    status, said = run(tmp_path, str(Path(sys.executable).with_name("mailhub")), "exam", "careless.py")
    assert status == 1
    assert said.startswith(shown.strip())


def test_the_readme_leads_there() -> None:
    assert "docs/testing.rst" in (ROOT / "README.rst").read_text()
