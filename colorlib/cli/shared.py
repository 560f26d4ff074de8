"""Common parts of the commands: options, errors, and the start of Keras.

Not here: the commands (`colorlib.cli.color`, `data`, `runs`, `train`).
"""

import contextlib
import functools
import importlib.util
import os
import sys
from typing import Annotated

import typer

Temperature = Annotated[
    float | None, typer.Option(min=0.0, help="0 takes the likeliest color, 1 the mean.")
]
Vividness = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.5, help="Rebalancing strength: 0 off, 1 favors rare colors."),
]

RUN_RULE = (
    "a name, your own before those that come with colorlib; or a folder, "
    "with a / in it or a . or ~ at its start."
)
"""The rule by which all commands find a run (`runs.place`)."""

BACKENDS = ("tensorflow", "jax", "torch")
"""Backends of Keras; torch is an optional extra, since it is large."""

FAILED = 2
"""Exit code if any file could not be done, or the call was wrong."""


@contextlib.contextmanager
def explained(*errors):
    """Turn these errors into one line on stderr and the exit code `FAILED`."""
    try:
        yield
    except errors as error:
        stop(error)


@contextlib.contextmanager
def silent_libraries():
    """Drop what the libraries' C code says on stderr, such as libtiff's; Python's lines remain.

    Also a decorator of a command that decodes images: its own lines name the damaged files.
    """
    usual, terminal, nowhere = sys.stderr, os.dup(2), os.open(os.devnull, os.O_WRONLY)
    if usual is sys.__stderr__:  # else a test has replaced it
        sys.stderr = _terminal()
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        sys.stderr = usual
        os.dup2(terminal, 2)
        os.close(terminal)


# It is never closed: what is imported meanwhile may keep it, as a library's log does.
@functools.cache
def _terminal():
    return os.fdopen(os.dup(2), "w", 1, sys.stderr.encoding, sys.stderr.errors)


def stop(error):
    """Print one line on stderr and end the command with the exit code `FAILED`."""
    from colorlib import files

    typer.echo(f"colorlib: {files.escaped(str(error))}", err=True)
    raise typer.Exit(FAILED)


def installed_backends():
    """List the backends of Keras that are installed."""
    return [name for name in BACKENDS if importlib.util.find_spec(name)]


def load_backend(backend=None, devices=True):
    """Start Keras, or stop; what its backend's C++ code says to the terminal is dropped.

    Parameters
    ----------
    backend : str, optional
        One of `BACKENDS`; by default what Keras is set to, which is TensorFlow at first.
    devices : bool
        Whether to find the devices now; processes that compute together are connected before.
    """
    if backend is not None:
        if backend not in installed_backends():
            there = ", ".join(installed_backends()) or "none"
            stop(f"the backend {backend!r} is not installed; installed are: {there}")
        os.environ["KERAS_BACKEND"] = backend
    try:
        with silent_libraries():
            import keras

            if devices:
                keras.ops.zeros(1)
    except (ImportError, ValueError) as error:
        backend = os.environ.get("KERAS_BACKEND", "the backend in ~/.keras/keras.json")
        stop(f"Keras can't start with {backend} ({error}); set KERAS_BACKEND=tensorflow")
