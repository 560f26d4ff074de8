"""The command `export`: write a recorded network for other programs.

Not here: what it calls (`colorlib.export`), imported inside the command so that
``colorlib --help`` answers at once.
"""

import re
from pathlib import Path
from typing import Annotated

import typer

from colorlib.cli import shared

Run = Annotated[str, typer.Argument(help="A recorded run: its name in data/runs, or its folder.")]
Output = Annotated[Path, typer.Argument(help="The file to write, whose name ends in .onnx.")]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="HxW",
        help="Height and width of the only input it takes, one image at a time; any if not given.",
    ),
]


def export(run: Run, output: Output, size: Size = None):
    """Write a recorded network as an ONNX file, for other programs and languages.

    It takes L of CIE Lab in 0..100, float32 (batch, height, width, 1), and gives the logits of 313
    colors, float32 (batch, height / 4, width / 4, 313). The colors and the run's decoding are in
    the file's metadata. The README shows how it is used.

    Example: colorlib export model-64 model-64.onnx --size 256x256
    """
    from colorlib import export, runs

    with shared.explained(runs.RunError, ValueError, OSError):
        if output.suffix != ".onnx":
            raise ValueError(f"{output}: the name has to end in .onnx")
        export.export(run, output, _sides(size) if size else None)
    typer.echo(f"{run} -> {output}")


def _sides(size):
    if not re.fullmatch(r"\d{1,5}x\d{1,5}", size):
        raise ValueError(f"--size {size}: height x width, such as 256x256")
    return tuple(int(side) for side in size.split("x"))
