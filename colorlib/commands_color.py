"""The command that colors photographs: `colorize`.

Not here: what it calls (`colorlib.folders`), imported inside the command so that
``colorlib --help`` answers at once.
"""

import collections
import contextlib
import os
import warnings
from pathlib import Path
from typing import Annotated

import typer

from colorlib import terminal


def colorize(
    paths: Annotated[list[Path], typer.Argument(help="Image files, grey or not, and folders.")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="A folder, or the image file for one photograph."),
    ],
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Look into the subfolders of folders too.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Color again what is in the output already.")
    ] = False,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Grey at the left, colored at the right.")
    ] = False,
    run: Annotated[
        str | None, typer.Option(help="A recorded run: its name in data/runs, or its folder.")
    ] = None,
    temperature: terminal.Temperature = None,
    vividness: terminal.Vividness = None,
    saturation: Annotated[
        float | None,
        typer.Option(min=0.0, max=4.0, help="Factor on how colorful it gets: 0 is grey."),
    ] = None,
    working_size: Annotated[
        int | None,
        typer.Option(min=8, max=1024, help="Shorter side, in pixels, of what the network sees."),
    ] = None,
):
    """Color photographs; each keeps its own lightness, resolution and file type.

    Transparency, 16 bits per channel, EXIF and the other words of a file are kept as well. JPEG,
    PNG, TIFF, WebP, BMP, AVIF and HEIC; a GIF becomes a PNG. Temperature, vividness and working
    size are the run's own if they are not given. Stop it with Ctrl-C: the same call goes on.

    Example: colorlib colorize grandmother.jpg album/ -o colored/
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's; the threads are `folders`'
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # damaged files get a line of ours
    from tqdm.auto import tqdm

    from colorlib import colorize, config, folders, images, runs

    warnings.simplefilter("ignore")  # Pillow's, about odd tags
    with terminal.explained(images.ImageError, runs.RunError, ValueError):
        jobs = folders.plan(paths, output, recursive)
        colorizer = colorize.colorizer_for(
            run or config.DEFAULT_RUN,
            temperature=temperature,
            vividness=vividness,
            saturation=saturation,
            working_size=working_size,
        )
    fates = collections.Counter()
    try:
        with (
            contextlib.closing(folders.color_all(colorizer, jobs, overwrite, side_by_side)) as done,
            tqdm(done, total=len(jobs), unit="photograph", disable=None, leave=False) as bar,
        ):
            for outcome in bar:
                fates[outcome.fate] += 1
                _say(outcome, bar)
    except KeyboardInterrupt:
        terminal.stop("stopped; what is colored stays, and the same call goes on with the rest")
    kept = " (--overwrite colors them again)" if fates[folders.KEPT] else ""
    typer.echo(f"{fates['colored']} colored, {fates['kept']} kept{kept}, {fates['failed']} failed")
    if fates[folders.FAILED]:
        raise typer.Exit(terminal.FAILED)


def _say(outcome, bar):
    bar.clear()
    if outcome.fate == "colored":
        typer.echo(_printable(f"{outcome.job.source} -> {outcome.job.target}"))
    if outcome.why:
        typer.echo(_printable(f"colorlib: {outcome.why}"), err=True)


# A file's name may hold line breaks and what would steer the terminal.
def _printable(line):
    return "".join(character if character.isprintable() else "?" for character in line)
