"""The commands `runs` and `export`: list recorded runs, share them, write them for other programs.

Not here: what they call (`colorlib.data.sharing`, `colorlib.export`), imported inside the commands
so that ``colorlib --help`` starts at once.
"""

import re
from pathlib import Path
from typing import Annotated

import typer

from colorlib.cli import shared

runs = typer.Typer(help="List the recorded runs, and share them.", no_args_is_help=False)

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
    from colorlib import export, files

    with shared.explained(ValueError), files.explained_writing(output, ValueError):
        if output.suffix != ".onnx":
            raise ValueError(f"{output}: the name has to end in .onnx")
        export.export(run, output, _sides(size) if size else None)
    typer.echo(f"{run} -> {output}")


@runs.callback(invoke_without_command=True)
def list_runs(context: typer.Context):
    """List the recorded runs: what --run takes; the default one has a star."""
    if context.invoked_subcommand:
        return
    from colorlib.data import sharing

    found = sharing.summaries()
    width = max([len(one.name) for one in found], default=0)
    for one in found:
        mark = "*" if one.default else " "
        what = f"{one.megabytes:6.1f} MB  {one.origin:13}  {one.network}"
        typer.echo(f"{mark} {one.name:{width}}  {one.problem or what}")
    for name in (x for x in ("zhang-2016", "zhang-2017") if x not in [one.name for one in found]):
        typer.echo(f"  {name:{width}}  not here: colorlib fetch weights {name}")


@runs.command("show")
def show(run: Run):
    """Show how a run was trained, how large it is, and how it is decoded."""
    from colorlib.data import sharing

    with shared.explained(ValueError):
        for what, value in sharing.describe(run):
            typer.echo(f"{what:12}{value}")


@runs.command("export")
def pack(
    run: Run, output: Annotated[Path, typer.Argument(help="The file to write, ending in .zip.")]
):
    """Write a run as a zip file, for others: they unpack it with colorlib runs import.

    Example: colorlib runs export my-first my-first.zip
    """
    from colorlib import files
    from colorlib.data import sharing

    with shared.explained(ValueError), files.explained_writing(output, ValueError):
        if output.suffix != ".zip":
            raise ValueError(f"{output}: the name has to end in .zip")
        sharing.pack(run, output)
    typer.echo(f"{run} -> {output}")


@runs.command("import")
def unpack(
    file: Annotated[Path, typer.Argument(help="A zip file that colorlib runs export wrote.")],
    name: Annotated[str | None, typer.Option(help="Name of the run here.")] = None,
):
    """Unpack a run from a zip file; nothing in it is executed or written outside of its folder."""
    from colorlib.data import sharing

    with shared.explained(ValueError):
        typer.echo(f"{file} -> {sharing.unpack(file, name)}")


@runs.command("publish")
def publish(
    run: Run,
    folder: Annotated[Path, typer.Argument(help="The folder to make.")],
    license: Annotated[
        str | None, typer.Option(help="By the Hub's names; mit if not given.")
    ] = None,
):
    """Write a folder that is ready for the Hugging Face Hub: model card, ONNX, the run's files.

    Nothing is uploaded. The Hub's own program does that: hf upload YOU/NAME FOLDER
    """
    from colorlib import files
    from colorlib.data import sharing

    with shared.explained(ValueError), files.explained_writing(folder, ValueError):
        sharing.publish(run, folder, license)
    typer.echo(f"{run} -> {folder}")


def _sides(size):
    if not re.fullmatch(r"\d{1,5}x\d{1,5}", size):
        raise ValueError(f"--size {size}: height x width, such as 256x256")
    return tuple(int(side) for side in size.split("x"))
