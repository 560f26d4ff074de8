"""The command `colorize`: color photographs and films.

Not here: the work (`colorlib.photos.batch`, `colorlib.video.pipeline`). These modules are imported
inside the command, so that ``colorlib --help`` starts fast.
"""

import collections
import contextlib
import functools
import itertools
import os
import re
import warnings
from pathlib import Path
from typing import Annotated

import typer

from colorlib.cli import shared

Paths = Annotated[
    list[Path], typer.Argument(help="Image files and films, grey or not, and folders.")
]
Output = Annotated[
    Path, typer.Option("-o", "--output", help="A folder, or the file for one photograph or film.")
]
Recursive = Annotated[
    bool, typer.Option("-r", "--recursive", help="Include the subfolders of folders.")
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Color again, and replace existing files in the output."),
]
SideBySide = Annotated[
    bool, typer.Option("--side-by-side", help="Grey at the left, colored at the right.")
]
Run = Annotated[str | None, typer.Option(help=f"A recorded run: {shared.RUN_RULE}")]
Saturation = Annotated[
    float | None,
    typer.Option(min=0.0, max=4.0, help="Factor on the saturation; 0 is grey."),
]
WorkingSize = Annotated[
    int | None,
    typer.Option(min=8, max=1024, help="Shorter side, in pixels, of the network's input."),
]
FollowEdges = Annotated[
    bool | None,
    typer.Option(help="Whether color edges follow the edges of the lightness (guided filter)."),
]
Smoothing = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Films: temporal smoothing against flicker; 0 is off.",
    ),
]
Scribbles = Annotated[
    Path | None,
    typer.Option(
        metavar="MARKED",
        help="Color one photograph by strokes, without a network: a copy of it that you painted "
        "on, or a transparent PNG of its size with your strokes. Nearly grey strokes on a grey "
        "photograph need the PNG: on a copy they look like the photograph.",
    ),
]
Hints = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Color one photograph by hints: a CSV file of x,y,color, in pixels from the upper "
        "left corner, or a transparent PNG of its size with painted points.",
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="K/N",
        help="Color only part K of N, 1/N to N/N; the calls of all parts color all files.",
    ),
]


@shared.silent_libraries()
def colorize(
    paths: Paths,
    output: Output,
    recursive: Recursive = False,
    overwrite: Overwrite = False,
    side_by_side: SideBySide = False,
    run: Run = None,
    temperature: shared.Temperature = None,
    vividness: shared.Vividness = None,
    saturation: Saturation = None,
    working_size: WorkingSize = None,
    follow_edges: FollowEdges = None,
    smoothing: Smoothing = None,
    scribbles: Scribbles = None,
    hints: Hints = None,
    shard: Shard = None,
):
    """Color photographs and films; each keeps its own lightness, resolution and file type.

    Transparency, 16 bits per channel, EXIF and other metadata are kept as well. JPEG,
    PNG, TIFF, WebP, BMP, AVIF and HEIC; a GIF becomes a PNG, animated if it was. All pages of a
    TIFF or HEIC file and all frames of an animation are colored; a line says so if the output's
    format can't hold them. Temperature, vividness and working size are the run's own by default.
    You can stop with Ctrl-C; the same call resumes.

    Existing results of the same file and the same settings are kept; with other settings the file
    is colored again. Files with one name from several folders get -2, -3, ... appended. A hidden
    .colorlib.jsonl in the output records the source of each result; other files in the output are
    not overwritten.

    Films (MP4, MOV, MKV, WebM; AVI and others become MP4) follow after the photographs. They are
    colored frame by frame and keep their sound and the time of each frame. A film that was
    stopped, even by a crash, is resumed.

    With --scribbles your strokes say the colors: paint a few on a copy of the photograph in any
    program, in the same size. Each color spreads to where the lightness changes.

    With --hints a network is told the colors of a few points, and colors the rest to suit them.
    The first line of a CSV file is x,y,color; the others are such as 120,80,#2e6b34 or
    120,80,darkgreen. Only a color's hue and saturation count: the lightness is the photograph's.

    With --shard many processes or machines color one archive into one output, each its part: the
    same call with 1/16, 2/16, ... 16/16, in any order, at once or not, and again for a part that
    was stopped. A file's part follows from its path in the archive.

    Example: colorlib colorize grandmother.jpg album/ -o colored/

    Example: colorlib colorize wedding.mp4 -o wedding-in-color.mp4

    Example: colorlib colorize coat.jpg --scribbles coat-painted.png -o colored/

    Example: colorlib colorize coat.jpg --hints coat.csv -o colored/

    Example: colorlib colorize archive/ -r -o colored/ --shard 3/16
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # our messages name damaged files
    decoding = {
        "temperature": temperature,
        "vividness": vividness,
        "saturation": saturation,
        "working_size": working_size,
        "follow_edges": follow_edges,
    }
    if scribbles:
        _refuse(run=run, **decoding, smoothing=smoothing, hints=hints)
    else:
        recorded, network = _loaded(run, hints)
    # after the network, since ONNX Runtime prepares it while these are imported
    from colorlib import colorize, images
    from colorlib.photos import batch

    warnings.simplefilter("ignore")  # Pillow's, about odd tags
    with shared.explained(images.ImageError, ValueError):
        if given := scribbles or hints:
            _require_one_photograph(paths, "--scribbles" if scribbles else "--hints")
            _require_file(given)  # a missing file is named before anything is made
        jobs = batch.plan(paths, output, recursive, overwrite, _parsed(shard or "1/1"))
        others = batch.skipped_files(paths, output, recursive)
        if not scribbles:
            colorizer = colorize.colorizer_for(recorded, network, **decoding)
    if scribbles:
        outcomes = (batch.color_scribbled(x, scribbles, overwrite, side_by_side) for x in jobs)
    elif hints:
        outcomes = (batch.color_hinted(colorizer, x, hints, overwrite, side_by_side) for x in jobs)
    else:
        outcomes = itertools.chain(
            _photographs(colorizer, jobs, overwrite, side_by_side),
            _films(colorizer, jobs, overwrite, side_by_side, smoothing),
        )
    _report(outcomes, others)


def _loaded(run, hints):
    from colorlib import config, runs

    with shared.explained(runs.RunError, ValueError):
        recorded = runs.load_run(run or (config.HINTS_RUN if hints else config.DEFAULT_RUN))
        network = recorded.network()
        if hints and not network.takes_hints:
            raise ValueError(f"the run {run} takes no hints; leave --run out")
    return recorded, network


def _report(outcomes, others):
    from colorlib.photos import batch

    counts = collections.Counter()
    try:
        for outcome in outcomes:
            counts[outcome.status] += 1
            _say(outcome)
    except KeyboardInterrupt:
        shared.stop("stopped; finished files are kept, and the same call resumes with the rest")
    kept = " (--overwrite colors them again)" if counts[batch.KEPT] else ""
    others = f"; skipped because of their names: {others}" if others else ""
    done = f"{counts['colored']} colored, {counts['kept']} kept{kept}, {counts['failed']} failed"
    typer.echo(f"{done}{others}")
    if counts[batch.FAILED]:
        raise typer.Exit(shared.FAILED)


def _refuse(**options):
    names = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if names:
        them = "it" if len(names) == 1 else "them"
        shared.stop(f"--scribbles colors without a network: {', '.join(names)}; leave {them} out")


def _parsed(shard):
    if not re.fullmatch("[0-9]+/[0-9]+", shard):
        raise ValueError(f"--shard {shard}: has to be such as 3/16, the third of 16 parts")
    return tuple(map(int, shard.split("/")))


def _require_one_photograph(paths, option):
    from colorlib import files
    from colorlib.photos import batch

    if len(paths) != 1 or files.is_folder(paths[0]) or batch.is_film(paths[0]):
        what = f"{len(paths)} files" if len(paths) != 1 else paths[0]
        verb = "belongs" if option == "--scribbles" else "belong"
        raise ValueError(f"{option} {verb} to one photograph, not to {what}; name one")


def _require_file(path):
    from colorlib import images
    from colorlib.photos import hint_files

    if path.suffix.lower() == hint_files.ENDING:
        hint_files.read_text(path)
        return
    with images.opened(path):
        pass


def _photographs(colorizer, jobs, overwrite, side_by_side):
    from colorlib.photos import batch

    jobs = [job for job in jobs if not batch.is_film(job.source)]
    outcomes = batch.color_all(colorizer, jobs, overwrite, side_by_side)
    if len(jobs) < 2:  # a bar would start more slowly than the photograph is colored
        yield from outcomes
        return
    from tqdm import tqdm

    with (
        contextlib.closing(outcomes) as done,
        tqdm(done, total=len(jobs), unit="photograph", disable=None, leave=False) as bar,
    ):
        for outcome in bar:
            bar.clear()
            yield outcome


def _films(colorizer, jobs, overwrite, side_by_side, smoothing):
    from colorlib.photos import batch

    jobs = [job for job in jobs if batch.is_film(job.source)]
    if not jobs:  # then PyAV need not start
        return
    from tqdm import tqdm

    from colorlib.video import pipeline
    from colorlib.video.smoothing import SMOOTHING

    yield from pipeline.color_all(
        colorizer,
        jobs,
        overwrite,
        functools.partial(tqdm, unit="frame", disable=None, leave=False),
        side_by_side=side_by_side,
        smoothing=SMOOTHING if smoothing is None else smoothing,
    )


def _say(outcome):
    if outcome.status == "colored":
        again = " (again, with other settings)" if outcome.replaced else ""
        typer.echo(_printable(f"{outcome.job.source} -> {outcome.job.target}{again}"))
    if outcome.why:
        typer.echo(_printable(f"colorlib: {outcome.why}"), err=True)


# A file's name may hold line breaks and control characters.
def _printable(line):
    from colorlib import files

    line = files.escaped(line)
    return "".join(character if character.isprintable() else "?" for character in line)
