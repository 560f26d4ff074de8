"""The command line: nothing but calls into the library.

Heavy modules are imported inside the commands, so that ``colorlib --help`` answers at once.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Color grey photographs with the CNN of Zhang et al. 2016.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

FAILED = 2
"""Exit code if any file could not be done, or the call was wrong."""


@app.callback()
def callback():
    """Color grey photographs with the CNN of Zhang et al. 2016."""


@app.command()
def colorize(
    photographs: Annotated[list[Path], typer.Argument(help="Image files, grey or not.")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="A folder, or the image file for one photograph."),
    ],
    run: Annotated[
        str | None, typer.Option(help="A recorded run: its name in data/runs, or its folder.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, help="0 takes the likeliest color, 1 the mean.")
    ] = None,
    vividness: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.5, help="How far rare colors are favored: 0 not at all."),
    ] = None,
    working_size: Annotated[
        int | None,
        typer.Option(min=8, help="Shorter side, in pixels, of what the network sees."),
    ] = None,
):
    """Color photographs; each keeps its own lightness and resolution.

    Temperature, vividness and working size are the run's own if they are not given.

    Example: colorlib colorize grandmother.jpg street.png -o colored/
    """
    _load_backend()
    from colorlib import colorize, config, images, runs

    try:
        targets = colorize.plan_outputs(photographs, output)
        colorizer = colorize.colorizer_for(
            run or config.DEFAULT_RUN,
            temperature=temperature,
            vividness=vividness,
            working_size=working_size,
        )
    except (images.ImageError, runs.RunError) as error:
        _stop(error)
    failures = 0
    for source, target in targets:
        try:
            colorize.colorize_file(colorizer, source, target)
            typer.echo(f"{source} -> {target}")
        except images.ImageError as error:
            failures += 1
            typer.echo(f"colorlib: {error}", err=True)
    if failures:
        raise typer.Exit(FAILED)


def _stop(error):
    typer.echo(f"colorlib: {error}", err=True)
    raise typer.Exit(FAILED)


def _load_backend():
    """Start Keras; what its backend's C++ code says to the terminal meanwhile is dropped."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import keras

        keras.ops.zeros(1)  # the search for devices is part of the start
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def main():
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
