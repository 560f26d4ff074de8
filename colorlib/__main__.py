"""The command line, composed of the modules that hold its commands."""

import atexit
import gc
import os
import sys
import warnings

# photographs are colored in threads; more of them, for NumPy's matrix products, would mostly spin
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# TensorFlow's faster convolutions; by itself it takes them only where there is AVX-512
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import typer

from colorlib.cli import color, data, runs, train

app = typer.Typer(
    help="Color grey photographs with the CNN of Zhang et al. 2016.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # else a docstring's line breaks stay
    pretty_exceptions_enable=False,
)

app.command()(color.colorize)
app.add_typer(data.fetch, name="fetch")
app.command()(data.pack)
app.command()(train.train)
app.command()(train.search)
app.command()(train.evaluate)
app.command()(runs.export)
app.add_typer(runs.runs, name="runs")


def main():
    """Run the command line."""
    # else a tenth of a photograph's time goes to searches for cycles among what is imported
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):
        # a file's name that a terminal can't show is no error
        stream.reconfigure(errors="backslashreplace")
    # one line, without the place in the code
    warnings.formatwarning = lambda message, *_, **__: f"colorlib: {message}\n"
    app()


if __name__ == "__main__":
    main()
