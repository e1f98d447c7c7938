"""What is shipped: the wheel, built from a clean copy of the sources, name by name."""

import configparser
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("compiler", "profilers", "targets")
TABLE = "targets/costs/cpu-any.json"
"""A cost table in the sources: that those which ship are in the wheel is seen even while none does."""

SHIPPED = {".py", ".typed", ".toml", ".json", ".txt", ".html", ".css", ".js"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    (source / TABLE).parent.mkdir(exist_ok=True)
    (source / TABLE).write_text("{}", encoding="utf-8")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", "."]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def names(wheel):
    return {name for name in wheel.namelist() if not name.endswith("/")}


def sources():
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in files if path.suffix in SHIPPED}


def test_it_holds_the_three_packages_and_nothing_beside_them(names):
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, "paretoc-0.2.0.dist-info"}


def test_every_source_and_data_file_is_in_it(names):
    assert {name for name in names if ".dist-info/" not in name} == {*sources(), TABLE}


@pytest.mark.parametrize(
    "name",
    [
        "compiler/data/sample.txt",
        "compiler/report/template.html",
        "targets/catalog/cpu.toml",
        "targets/catalog/a10g.toml",
        *(f"{package}/py.typed" for package in PACKAGES),
        "paretoc-0.2.0.dist-info/licenses/LICENSE",
    ],
)
def test_what_it_cannot_do_without_is_in_it(names, name):
    assert name in names


def test_both_console_scripts_are_declared(wheel):
    declared = configparser.ConfigParser()
    declared.read_string(wheel.read("paretoc-0.2.0.dist-info/entry_points.txt").decode())
    assert dict(declared["console_scripts"]) == {"compile": "compiler.cli:main", "paretoc": "compiler.cli:main"}
