"""Several processes and devices that train one network together: who is who, how they start.

Not here: the training (`colorlib.training`) and which images a process reads
(`colorlib.generator`). JAX's `jax.distributed` connects the processes, and Keras'
`keras.distribution.DataParallel` keeps a copy of the network on every device, divides each batch
among them and averages the gradients. Keras can do this over processes with JAX only. Both are
imported inside the functions: `launch` starts processes, and needs neither.
"""

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from typing import NamedTuple

VARIABLES = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
)
"""What torchrun, Open MPI, MPICH and SLURM call a process' number, how many there are, and its
number on its machine."""

ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
"""Variables with the machine of process 0 and a free port there. SLURM and Open MPI need none."""

HEARTBEAT_TIMEOUT = 100
"""Seconds without a heartbeat after which a process counts as dead; a closed connection is noticed
at once."""

GRACE = 30
"""Seconds in which the processes of `launch` may save and end after one of them has failed."""


class LostProcessError(RuntimeError):
    """Another process of the training has stopped; the message says how to go on."""


class World(NamedTuple):
    """All that train together.

    Attributes
    ----------
    rank : int
        The number of this process, from 0; process 0 writes the run.
    processes : int
        How many there are.
    devices : int
        Devices of all processes; each takes an equal part of every batch.
    """

    rank: int = 0
    processes: int = 1
    devices: int = 1


ALONE = World()


def world():
    """Return who trains together: `World`; outside of JAX it is this process with one device."""
    import keras

    if keras.backend.backend() != "jax":
        return ALONE
    import jax

    return World(jax.process_index(), jax.process_count(), jax.device_count())


def announced():
    """Return what the environment says of processes that were started together.

    Returns
    -------
    tuple of int or None, or None
        This process' number, how many there are, and its number on its machine, which may be
        missing. None if it is alone.
    """
    for rank, size, local in VARIABLES:
        if rank in os.environ and int(os.environ.get(size, 1)) > 1:
            there = os.environ.get(local)
            return int(os.environ[rank]), int(os.environ[size]), there and int(there)
    return None


def join():
    """Connect this process with those it was started with; a process that is alone does nothing.

    It has to come before the first computation.

    Raises
    ------
    ValueError
        If Keras' backend is not JAX, or the others can't be found.
    """
    if (found := announced()) is None:
        return
    import keras

    rank, processes, local = found
    if keras.backend.backend() != "jax":
        why = f"{processes} processes train one network with the backend jax only"
        raise ValueError(f"{why}, not with {keras.backend.backend()}; choose --backend jax")
    import jax

    host, port = (os.environ.get(name) for name in ADDRESS)
    if port and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        port = int(port) + 1  # torchrun itself listens at the other
    jax.config.update("jax_enable_preemption_service", False)  # it would catch SIGTERM, and go on
    try:
        jax.distributed.initialize(
            host and f"{host}:{port}",
            processes,
            rank,
            local_device_ids=local,
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        remedy = f"set {' and '.join(ADDRESS)} to the machine of process 0 and a free port there"
        raise ValueError(
            f"process {rank} of {processes} finds no others ({reason}); {remedy}"
        ) from None


@contextlib.contextmanager
def together():
    """Distribute the networks that are made in this block over all devices, if there are several.

    Raises
    ------
    LostProcessError
        If another process has stopped.
    """
    here = world()
    if here.devices == 1:
        yield
        return
    import jax
    import keras

    try:
        with keras.distribution.DataParallel(auto_shard_dataset=False).scope():
            yield
    except jax.errors.JaxRuntimeError as error:
        if here.processes == 1:
            raise
        reason = str(error).splitlines()[0]
        raise LostProcessError(
            f"another process of this training has stopped, or can't be reached ({reason}); start "
            "all again: the same command goes on from the last checkpoint"
        ) from None


@contextlib.contextmanager
def alone(network):
    """Let this process use a distributed network without the others; it is unchanged afterwards.

    Parameters
    ----------
    network : keras.Model
        With an optimizer.
    """
    import keras

    if (distribution := keras.distribution.distribution()) is None:
        yield
        return
    variables = [*network.variables, *network.optimizer.variables]
    # Keras has no public way: with a layout, to assign a value is an agreement of all processes
    kept = [(variable._layout, variable._value) for variable in variables]
    keras.distribution.set_distribution(None)
    try:
        for variable in variables:
            variable._layout = None
            variable.assign(keras.ops.convert_to_numpy(variable))
        yield
    finally:
        keras.distribution.set_distribution(distribution)
        for variable, (layout, value) in zip(variables, kept, strict=True):
            variable._layout, variable._value = layout, value


def wait(name):
    """Wait until all processes are here; the name of the place is the same in all of them."""
    if world().processes > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def leaving():
    """End a process at once if the block fails and there are others: JAX would wait for them."""
    try:
        yield
    except BaseException as error:
        if announced() is None:
            raise
        if not hasattr(error, "exit_code"):  # the command line's own exits have said why
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(getattr(error, "exit_code", 1))


def launch(command, processes):
    """Run a command as several processes on this machine, connected by `join`.

    Ctrl-C stops process 0 after its batch, so that it saves, and ends the others.

    Parameters
    ----------
    command : sequence of str
    processes : int

    Returns
    -------
    str
        Which process failed first, and how to go on; empty if all ended well.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(found.getsockname()[1])}
    shared["WORLD_SIZE"] = str(processes)
    usual = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    running = []
    try:
        for rank in range(processes):
            environment = {**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            # in a session of its own, Ctrl-C reaches it only once, through this process
            running.append(subprocess.Popen(command, env=environment, start_new_session=True))
        return _first_failure(running)
    except KeyboardInterrupt:
        running[0].send_signal(signal.SIGINT)
        running[0].wait()
        return "all processes were stopped"
    finally:
        for process in running:
            process.kill()
            process.wait()
        signal.signal(signal.SIGTERM, usual)


def _first_failure(running):
    failed, codes, until = {}, [None], math.inf
    while None in codes and time.monotonic() < until:
        time.sleep(0.1)
        codes = [process.poll() for process in running]
        if any(codes) and not failed:
            failed = {rank: code for rank, code in enumerate(codes) if code}
            until = time.monotonic() + GRACE
    if not failed:
        return ""
    rank = min(failed, key=failed.get)  # if several failed at once, one that a signal ended
    if failed[rank] > 0:
        return f"process {rank} of {len(running)} has failed: see its message; all were stopped"
    how = f"was ended by {signal.Signals(-failed[rank]).name}; the others were stopped"
    return f"process {rank} of {len(running)} {how}, and the same command goes on"
