"""The command that colors photographs: `colorize`.

Not here: what it calls (`colorlib.colorize`), imported inside the command so that
``colorlib --help`` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from colorlib import terminal


def colorize(
    photographs: Annotated[list[Path], typer.Argument(help="Image files, grey or not.")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="A folder, or the image file for one photograph."),
    ],
    run: Annotated[
        str | None, typer.Option(help="A recorded run: its name in data/runs, or its folder.")
    ] = None,
    temperature: terminal.Temperature = None,
    vividness: terminal.Vividness = None,
    working_size: Annotated[
        int | None,
        typer.Option(min=8, help="Shorter side, in pixels, of what the network sees."),
    ] = None,
):
    """Color photographs; each keeps its own lightness and resolution.

    Temperature, vividness and working size are the run's own if they are not given.

    Example: colorlib colorize grandmother.jpg street.png -o colored/
    """
    from colorlib import colorize, config, images, runs

    with terminal.explained(images.ImageError, runs.RunError):
        targets = colorize.plan_outputs(photographs, output)
        colorizer = colorize.colorizer_for(
            run or config.DEFAULT_RUN,
            temperature=temperature,
            vividness=vividness,
            working_size=working_size,
        )
    failures = 0
    for source, target in targets:
        try:
            colorize.colorize_file(colorizer, source, target)
            typer.echo(f"{source} -> {target}")
        except images.ImageError as error:
            failures += 1
            typer.echo(f"colorlib: {error}", err=True)
    if failures:
        raise typer.Exit(terminal.FAILED)
