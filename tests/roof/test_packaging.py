"""What an installation holds: the package and the plugin files, and nothing that would shadow Twisted."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PLUGINS = {"twisted/plugins/mailhub_plugin.py", "twisted/plugins/mailhub_components.py"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout without what git ignores and builds leave behind."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.rst", "LICENSE", "MANIFEST.in"):
        shutil.copy(CHECKOUT / name, folder)
    unwanted = shutil.ignore_patterns("__pycache__", "dropin.cache")
    for name in ("mailhub", "twisted", "tests"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=unwanted)
    return folder


def build(source: Path, folder: Path, hook: str) -> zipfile.ZipFile:
    """What pip builds: `build_wheel` for an installation, `build_editable` for `pip install -e`."""
    program = f"import setuptools.build_meta as backend; print(backend.{hook}({str(folder)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=source, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(folder / done.stdout.split()[-1])


def test_the_wheel_has_the_plugins_and_no_init_in_twisteds_folders(source: Path, tmp_path: Path) -> None:
    with build(source, tmp_path, "build_wheel") as wheel:
        names = set(wheel.namelist())
    assert {name for name in names if name.startswith("twisted/")} == PLUGINS
    assert {"mailhub/py.typed", "mailhub/wire/imap/server.py", "mailhub/store/sqlite/database.py"} <= names
    assert not [name for name in names if name.startswith("tests/")]
    expected = {str(path.relative_to(source)) for path in (source / "mailhub").rglob("*.py")}
    assert {name for name in names if name.startswith("mailhub/") and name.endswith(".py")} == expected


def test_an_editable_installation_puts_the_checkout_on_the_path(source: Path, tmp_path: Path) -> None:
    """A path, not an import hook: twisted.plugin looks for folders."""
    with build(source, tmp_path, "build_editable") as wheel:
        (pth,) = [name for name in wheel.namelist() if name.endswith(".pth")]
        assert wheel.read(pth).decode().strip() == str(source)
