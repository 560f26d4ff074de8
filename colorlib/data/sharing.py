"""Write and read a recorded run as a zip file, publish it as a folder, and list the runs.

Not here: what a run is (`colorlib.runs`) and the authors' own weights (`colorlib.data.released`).
Nothing is uploaded: a person does that, with a program of the Hub.
"""

import dataclasses
import json
import re
import shutil
import zipfile
from pathlib import Path

from colorlib import config, export, files, runs
from colorlib.data import download
from colorlib.data.validation import FetchError

FILES = (
    "config.json",
    "history.csv",
    "environment.json",
    runs.WEIGHTS,
    "prior.json",
    "decoding.json",
    runs.PREDICTIONS,
    "metrics.json",
    "sweep.json",
    "interpolation.json",
)
"""The files of a run that are packed; checkpoints are left out."""

PUBLISHED = ("README.md", ".gitattributes")
"""Further files of a folder for the Hub; they are left out when it is imported."""

LARGEST = 5 * 10**8
"""Largest size in bytes of an unpacked run; the released networks have 140 million."""

NAME = r"\w[\w.-]{0,63}"
"""Valid names of an imported run."""

LICENSE = r"[a-z0-9][a-z0-9.-]{0,63}"
"""Valid names of licenses on the Hub."""

CARD = """---
license: {license}
library_name: onnx
pipeline_tag: image-to-image
tags:
- image-colorization
- colorlib
---

# {name}

A network that guesses the colors of grey photographs: {network}, {parameters:.1f} million
parameters. It was recorded by colorlib, a course on Zhang, Isola and Efros, *Colorful Image
Colorization* (2016, https://arxiv.org/abs/1603.08511).

## Use

With colorlib, from this folder or from a zip file of it:

    colorlib colorize photograph.jpg -o colored/ --run ./{name}

In other programs `{name}.onnx` is enough. It takes {input}.
It gives {output}.
Its metadata say how the output becomes colors.

## Training

{training}

## Decoding

{decoding}

## Limits

The network guesses. Its colors are possible at best, and never evidence of what was there. Don't
use them to decide or to prove anything about people, places or objects, and don't pass a colored
photograph on as an original.
"""
"""The model card; its first lines are what the Hub reads."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """A short description of a run.

    Attributes
    ----------
    name : str
    network : str
        Name of the network as in a configuration, and its width if that is not 1.
    origin : str
        ``"yours"``, ``"with colorlib"``, ``"in the clone"`` or ``"fetched"``.
    megabytes : float
        Size of its files, without checkpoints.
    default : bool
        Whether it is used when no run is named.
    problem : str
        The reason why it can't be used; otherwise empty.
    """

    name: str
    network: str
    origin: str
    megabytes: float
    default: bool
    problem: str = ""


def summaries():
    """List the runs that a photograph can be colored with.

    Returns
    -------
    list of Summary
        Sorted by name; one that can't be used has its problem.
    """
    return [_summary(name) for name in runs.known()]


def _summary(name):
    folder = runs.find(name)
    own = config.RUNS != config.RECORDED and folder.parent == config.RUNS
    origin = "yours" if own else "in the clone"
    if config.RUNS != config.RECORDED and not own:
        origin = "with colorlib"
    megabytes = sum(path.stat().st_size for path in _present(folder)) / 1e6
    network, problem = "", ""
    try:
        run = runs.load_run(folder)
        network = _network(run)
        origin = "fetched" if "source" in run.data else origin
    except runs.RunError as error:
        problem = str(error)
    return Summary(name, network, origin, megabytes, name == config.DEFAULT_RUN, problem)


def describe(name):
    """Describe a run in lines.

    Parameters
    ----------
    name : str or path-like

    Returns
    -------
    list of (str, str)
        Names and values.

    Raises
    ------
    colorlib.runs.RunError
        If there is no such run, or it is damaged.
    """
    run = runs.load_run(name)
    last = {column: values[-1] for column, values in run.history.items()}
    return [
        ("folder", str(run.path)),
        ("network", _network(run)),
        ("parameters", f"{_parameters(run) / 1e6:.1f} million"),
        ("size", f"{sum(path.stat().st_size for path in _present(run.path)) / 1e6:.1f} MB"),
        ("trained on", _listed(run.data)),
        ("settings", _listed(_changed(run))),
        ("last epoch", _listed(last) or "not recorded"),
        ("environment", _listed(run.environment)),
        ("decoding", _listed(run.decoding.to_dict())),
    ]


def pack(name, path):
    """Write a run as a zip file.

    Parameters
    ----------
    name : str or path-like
        The run, or its folder.
    path : path-like
        Ending in ``.zip``; written under a temporary name and renamed.

    Raises
    ------
    colorlib.runs.RunError
        If there is no such run, or it is damaged.
    OSError
        If the file can't be written.
    """
    run = runs.load_run(name)
    run.weights()
    with (
        files.replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for file in _present(run.path):
            archive.write(file, f"{run.path.resolve().name}/{file.name}")


def unpack(path, name=None, home=config.RUNS):
    """Unpack a run from a zip file that `pack` wrote.

    Nothing is written outside of the new folder, nothing is executed, and only complete runs are
    accepted.

    Parameters
    ----------
    path : path-like
    name : str, optional
        Name of the run; by default the one in the zip file.
    home : path-like
        The folder of runs.

    Returns
    -------
    pathlib.Path
        The run's folder.

    Raises
    ------
    FetchError
        If the file is missing, damaged, unsafe, or holds something else than a run; or there is
        another run of that name.
    """
    path, home = Path(path), Path(home)
    with (
        files.explained_writing(home, FetchError),
        files.staging(home / f"import-{path.stem}") as hidden,
    ):
        download.unpack(path, hidden, len(FILES) + len(PUBLISHED) + 1, LARGEST)
        found = next(iter(sorted(hidden.rglob("config.json"))), hidden / "config.json").parent
        _check(path, found, hidden)
        name = name or (path.stem if found == hidden else found.name)
        if not re.fullmatch(NAME, name):
            raise FetchError(f"{path}: {name!r} can't be a run's name; give another with --name")
        if (home / name).exists():
            raise FetchError(f"{home / name}: is there already; give another name with --name")
        return found.replace(home / name)


def publish(name, folder, license=None):
    """Write a folder that is ready for the Hugging Face Hub; nothing is uploaded.

    Parameters
    ----------
    name : str or path-like
        The run, or its folder.
    folder : path-like
        The folder to create, with the run's files, its network as ONNX, and README.md, the model
        card.
    license : str, optional
        A name that the Hub knows; by default colorlib's license, or the authors' for a fetched run.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    colorlib.runs.RunError
        If there is no such run, or it is damaged.
    ValueError
        If the folder exists already, or the license has an impossible name.
    OSError
        If it can't be written.
    """
    run, folder = runs.load_run(name), Path(folder)
    if folder.exists():
        raise ValueError(f"{folder}: is there already; choose another folder")
    if license and not re.fullmatch(LICENSE, license):
        raise ValueError(f"no license {license!r} on the Hub; take one such as mit or cc-by-4.0")
    title = run.path.resolve().name
    with files.staging(folder) as hidden:
        for file in _present(run.path):
            shutil.copyfile(file, hidden / file.name)
        export.export(run, hidden / f"{title}.onnx")
        (hidden / "README.md").write_text(card(run, title, license), encoding="utf-8")
        return hidden.replace(folder)


def card(run, name, license=None):
    """Write a run's model card.

    Parameters
    ----------
    run : colorlib.runs.Run
    name : str
    license : str, optional
        As for `publish`.

    Returns
    -------
    str
        Markdown, with the Hub's YAML header.
    """
    about = export.metadata(run)
    theirs = "bsd-2-clause" if "source" in run.data else "mit"
    lines = {"On": run.data, "Settings": _changed(run), "With": run.environment}
    return CARD.format(
        name=name,
        license=license or theirs,
        network=_network(run),
        parameters=_parameters(run) / 1e6,
        input=about["input"],
        output=about["output"],
        training="\n".join(f"- {title}: {_listed(values)}" for title, values in lines.items()),
        decoding=_listed(run.decoding.to_dict()),
    )


def _check(path, found, folder):
    for file in [*found.glob("*.onnx"), *(found / name for name in PUBLISHED)]:
        file.unlink(missing_ok=True)
    there = [file for file in folder.rglob("*") if file.is_file()]
    others = [file.name for file in there if file.parent != found or file.name not in FILES]
    if others:
        raise FetchError(f"{path}: holds {others[0]!r}, which is no part of a run; don't use it")
    try:
        runs.load_run(found).weights()
    except runs.RunError as error:
        reason = str(error).replace(f"{found}", "it").removesuffix(f"; {runs.REMEDY}")
        why = f"holds no complete run ({reason}); ask whoever made it for another file"
        raise FetchError(f"{path}: {why}") from None


def _present(folder):
    return [folder / file for file in FILES if (folder / file).is_file()]


# The settings that are not the default ones; a run that was trained elsewhere has no others.
def _changed(run):
    plain = config.TrainConfig().to_dict()
    return {name: x for name, x in run.settings.to_dict().items() if x != plain[name]}


def _network(run):
    width = run.settings.width
    return run.settings.network + (f", width {width:g}" if width != 1 else "")


def _parameters(run):
    return sum(array.size for parts in run.weights()[1].values() for array in parts.values())


def _listed(values):
    return ", ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in values.items()
    )
