"""The command line, composed of the modules that hold its commands."""

import sys

import typer

from colorlib import commands_color, commands_data, commands_export, commands_training

app = typer.Typer(
    help="Color grey photographs with the CNN of Zhang et al. 2016.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(commands_color.colorize)
app.add_typer(commands_data.fetch, name="fetch")
app.command()(commands_data.pack)
app.command()(commands_training.train)
app.command()(commands_training.search)
app.command()(commands_training.evaluate)
app.command()(commands_export.export)


def main():
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # no file's name ends the work
    app()


if __name__ == "__main__":
    main()
