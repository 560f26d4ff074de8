"""The command line, and lines of Python, in a process of their own."""

import os
import subprocess
import sys

QUICK_XLA = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
"""XLA_FLAGS with which JAX compiles fast; what it compiles is slow."""

FULL_DISK = OSError(28, "No space left on device")


def run(*arguments, check=False, **environment):
    """Run the interpreter with these arguments and variables; return what it leaves, as text."""
    command = [sys.executable, *map(str, arguments)]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=check, env=env)


def colorlib(*arguments, **environment):
    """Run a command of the library in wide lines."""
    return run("-m", "colorlib", *arguments, **{"COLUMNS": "200", **environment})


def python(code, **environment):
    """Run lines of Python, which have to end well; return what they print."""
    return run("-c", code, check=True, **environment).stdout.strip()
