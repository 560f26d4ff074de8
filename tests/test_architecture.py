"""The project's structure: imports, sizes, dependencies, notebooks."""

import ast
import graphlib
import itertools
import re
import subprocess
import tomllib
from pathlib import Path

import check_notebooks
import processes
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "colorlib").rglob("*.py"))
PACKAGES = ("app", "cli", "data", "experiments", "photos", "video")
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("[0-9]*.ipynb"))
CONDA_NAMES = {
    "matplotlib": "matplotlib-base",
    "opencv-python-headless": "py-opencv",
    "playwright": "playwright-python",
}


def name(path):
    """Return the name of a file of the library: ``files``, ``data.crawler``, ``data.__init__``."""
    return ".".join(path.relative_to(ROOT / "colorlib").with_suffix("").parts)


def imported(path):
    """Return what a module imports: modules of the library, and top-level packages of others."""
    own, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "colorlib":
            package = node.module.split(".")[1:]
            own |= {".".join([*package, alias.name]) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            others.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
    modules = {name(module) for module in MODULES}
    return {x if x in modules else x.rpartition(".")[0] for x in own}, others


def test_the_core_has_its_rows_in_the_readme_and_every_package_one():
    rows = re.findall(r"^\| `([\w/]+)` \|[^|]*\|$", (ROOT / "README.md").read_text(), re.M)
    core = [path.stem for path in (ROOT / "colorlib").glob("[!_]*.py")]
    assert sorted(rows) == sorted([*core, *(f"{package}/" for package in PACKAGES)])


def test_imports_have_no_circles():
    graphlib.TopologicalSorter({name(path): imported(path)[0] for path in MODULES}).prepare()


ARROWS = {
    "": set(),
    "data": {""},
    "photos": {""},
    "video": {"", "photos"},
    "experiments": {"", "photos"},
    "app": {"", "photos"},
    "cli": {"", "data", "experiments", "photos", "video"},
}
"""Which packages of the library each one may import; "" is the core, which imports none."""


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_arrows_between_packages_run_one_way(path):
    package = name(path).rpartition(".")[0]
    there = {module.rpartition(".")[0] for module in imported(path)[0]}
    start = name(path) == "__main__"  # of the command line
    assert start or there <= ARROWS[package] | {package}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_the_library_is_written_on_keras_ops(path):
    # the switch for determinism, what connects processes, and dilated convolutions
    guarded = {"training": "tensorflow", "distributed": "jax", "model": "tensorflow"}
    others = {"tensorflow", "jax", "torch"} - {guarded.get(path.stem)}
    assert not imported(path)[1] & others


def test_importing_the_package_imports_nothing_else():
    code = "import sys, colorlib; print(sorted({'numpy', 'keras', 'cv2'} & set(sys.modules)))"
    assert processes.python(code) == "[]"


def declared():
    """Return pyproject's requirements, but for PyTorch, which is large: name -> specifier."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = itertools.chain(project["dependencies"], extras["transfer"], extras["test"])
    return {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}


def test_the_lock_satisfies_pyproject_and_names_no_place():
    text = (ROOT / "requirements.lock").read_text()
    lines = text.splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!]+", line) for line in lines)
    locked = {canonicalize_name(name): version for name, version in (x.split("==") for x in lines)}
    for name, specifier in declared().items():
        assert name in locked, f"{name} is not locked; run `make lock`"
        assert specifier.contains(locked[name]), f"{name}=={locked[name]} is not {specifier}"


def test_environment_yml_is_in_step_with_pyproject():
    text = (ROOT / "environment.yml").read_text()
    lines = re.findall(r"^ +- ([\w.-]+)(>=[\d.,<]+)$", text, re.M)
    conda = {name: SpecifierSet(spec) for name, spec in lines}
    expected = {CONDA_NAMES.get(name, name): spec for name, spec in declared().items()}
    assert conda == {**expected, "python": SpecifierSet(">=3.11")}


def test_ci_calls_make_test():
    assert re.search(r"^make test$", (ROOT / ".ci" / "run").read_text(), re.M)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_keep_their_rules(path):
    assert check_notebooks.problems(path) == []


def test_notebooks_are_in_the_readme_and_have_solutions():
    readme = (ROOT / "README.md").read_text()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"notebooks/{path.name}" in readme
        assert (path.parent / "solutions" / path.name).exists()


@pytest.mark.parametrize("folder", ["figures", "notebooks"])
def test_pictures_stay_small(folder):
    listed = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True)
    large = sum((ROOT / path).stat().st_size for path in listed.stdout.splitlines()) / 1e6
    assert large < 6, f"{folder}/ has {large:.1f} MB of the 6 it may have; show smaller pictures"
