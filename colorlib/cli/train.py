"""The commands `train`, `search` and `evaluate`.

Not here: what they call (`colorlib.training`, `colorlib.experiments.l2_search`,
`colorlib.evaluate`), imported inside the commands so that ``colorlib --help`` starts at once.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from colorlib import config
from colorlib.cli import shared

CPUINFO = Path("/proc/cpuinfo")
"""Linux names a processor's instructions there."""


def train(
    preset: Annotated[str, typer.Argument(help=f"One of {', '.join(config.PRESETS)}.")],
    data: Annotated[list[Path], typer.Option(help="A store to train on; repeat for shards.")],
    val: Annotated[list[Path], typer.Option(help="A store to validate on; repeat for shards.")],
    run: Annotated[str, typer.Option(help=f"The run to record: {shared.RUN_RULE}")],
    precision: Annotated[str | None, typer.Option(help="float32 or mixed_bfloat16.")] = None,
    width: Annotated[float | None, typer.Option(help="Factor on the channel counts.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    start_from: Annotated[
        str | None,
        typer.Option(help=f"A run whose weights to start from: {shared.RUN_RULE}"),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(help=f"Keras' backend; installed: {', '.join(shared.installed_backends())}."),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Threads that prepare batches.")] = 2,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write logs for TensorBoard.")
    ] = False,
    save_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 60.0,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes that train together on this machine (jax).")
    ] = 1,
):
    """Train a preset, changed by the options, and record the run.

    Stop it with Ctrl-C, or kill it: the same command goes on, and ends with the same weights.

    With --backend jax all GPUs of this machine share each batch. On several machines start the
    same command once for each GPU with srun, mpirun or torchrun, or with RANK, WORLD_SIZE,
    MASTER_ADDR and MASTER_PORT in the environment; the run's folder is on a disk that all of them
    share. --processes starts processes here, one for each GPU. If one process is killed, the others
    stop, and the same command goes on.

    Example: colorlib train MODEL_64 --data train.h5 --val val.h5 --run my-first

    Example: srun --ntasks=8 colorlib train TRANSFER --backend jax --data train.h5 --val val.h5
    --run ./large
    """
    from colorlib import distributed

    if preset not in config.PRESETS:
        shared.stop(f"no preset {preset!r}; choose from {', '.join(config.PRESETS)}")
    several = distributed.announced() is not None
    if processes > 1 and not several:
        _launch(processes, backend)
        return
    shared.load_backend(backend, devices=not several)
    import keras
    import numpy as np

    from colorlib import runs, samples, store, training

    changes = dict(
        precision=precision,
        width=width,
        epochs=epochs,
        batch_size=batch_size,
        start_from=start_from,
    )
    given = {name: value for name, value in changes.items() if value is not None}
    path = runs.place(run)
    errors = store.StoreError, runs.RunError, ValueError, distributed.LostProcessError
    with distributed.leaving(), shared.explained(*errors):
        distributed.join()
        images = store.Store(*data)
        callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=_show_epoch)]
        if tensorboard:
            callbacks.append(keras.callbacks.TensorBoard(path / "tensorboard"))
        settings = config.PRESETS[preset].replace(**given)
        if settings.precision == "mixed_bfloat16" and _bfloat16_is_slow():
            note = "no instructions for bfloat16; --precision float32 trains several times as fast"
            typer.echo(f"this processor has {note}", err=True)
        try:
            squares = [samples.square(name, settings.image_size) for name in samples.NAMES]
            training.train(
                settings,
                images,
                store.Store(*val),
                path,
                callbacks,
                workers=workers,
                save_every=save_every,
                watched=np.stack(squares),
            )
        except KeyboardInterrupt:
            shared.stop(f"stopped; what was done is in {path}, and the same command goes on")
    if distributed.world().rank == 0:
        typer.echo(f"the run is in {path}")


# TensorFlow and PyTorch then emulate it on a CPU: a training step took five to seven times as long.
def _bfloat16_is_slow():
    import keras

    flags = CPUINFO.read_text() if CPUINFO.exists() else ""
    old = "avx2" in flags and "avx512" not in flags and "bf16" not in flags
    on_cpu = "cpu" in str(keras.ops.zeros(1).device).lower()
    return old and on_cpu and keras.backend.backend() != "jax"


def _launch(processes, backend):
    from colorlib import distributed

    chosen = backend or os.environ.get("KERAS_BACKEND", "tensorflow")
    if chosen != "jax":
        shared.stop(f"--processes needs the backend jax, not {chosen}; choose --backend jax")
    command = [sys.executable, "-m", "colorlib", *sys.argv[1:]]
    if failure := distributed.launch(command, processes):
        shared.stop(failure)


def search(
    data: Annotated[
        list[Path], typer.Option(help="A store to take images from; repeat for shards.")
    ],
    study: Annotated[str, typer.Option(help="A file, created if missing, or a database's URL.")],
    stage: Annotated[
        str,
        typer.Option(
            help="coarse: 1e-7 to 1. fine: where coarse was best. edge: where its loss rises most."
        ),
    ],
    trials: Annotated[
        int | None,
        typer.Option(
            min=1, help="Trials of the stage, of all processes together; default 20 or 12."
        ),
    ] = None,
    images: Annotated[
        int, typer.Option(min=1, help="Training images; as many more are for validation.")
    ] = 256,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of each trial.")] = None,
    width: Annotated[float | None, typer.Option(help="Factor on the channel counts.")] = None,
    heartbeat_timeout: Annotated[
        int,
        typer.Option(
            "--heartbeat-timeout",
            "--silence",
            min=2,
            help="Seconds until a process counts as dead.",
        ),
    ] = 60,
    record: Annotated[
        str | None,
        typer.Option(help=f"Write the trials as text, or go on from there: {shared.RUN_RULE}"),
    ] = None,
):
    """Search the L2 constant at random, coarse to fine, as the report did.

    Call it in several terminals at once, or, with the URL of a database, on several machines: they
    share the trials. A password belongs in ~/.pgpass or PGPASSWORD, not in the URL. Stop it with
    Ctrl-C, or kill it: the same command goes on. If the file of the study is gone, --record
    continues what it has recorded. Hopeless trials are ended early; what is compared is the
    validation loss without the penalty.

    Example: colorlib search --data train.h5 --study l2.db --stage coarse

    Example: colorlib search --data train.h5 --stage coarse --study
    postgresql+psycopg://me@database.lab/l2
    """
    shared.load_backend()
    from colorlib import generator, runs, store
    from colorlib.experiments import l2_search

    changes = {"epochs": epochs, "width": width}
    given = {name: value for name, value in changes.items() if value is not None}
    with shared.explained(ValueError, generator.RecordError):
        settings = config.SEARCH.replace(**given)
        small = l2_search.small_set(store.Store(*data), images, settings.image_size)
        budget = trials or (20 if stage == "coarse" else 12)
        path = runs.place(record) if record else None
        if path and path.exists():
            l2_search.resume(path, study)
        try:
            done = l2_search.search(
                settings, small, study, stage, budget, True, [_show_trial], heartbeat_timeout
            )
        except KeyboardInterrupt:
            shared.stop(f"stopped; the trial in hand is back in {study}, the same call goes on")
        best = done.best_trial
        l2, loss = best.params["l2"], best.value
        typer.echo(f"{stage}: l2 = {l2:.1e} is best, {loss:.3f} nats per pixel")
        if path:
            l2_search.record(study, path)
            typer.echo(f"the trials are in {path}")


@shared.silent_libraries()
def evaluate(
    run: Annotated[str, typer.Argument(help=f"A recorded run: {shared.RUN_RULE}")],
    images: Annotated[
        Path, typer.Option(help="A folder of image files, or a file that `colorlib pack` wrote.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=2, help="Evaluate only so many images, spread evenly.")
    ] = None,
    temperature: shared.Temperature = None,
    vividness: shared.Vividness = None,
):
    """Evaluate a run's colors, compared with chance.

    Cross-entropy and accuracy of the predicted distributions; AuC, rebalanced AuC (Zhang et al.
    2016, section 3.1), PSNR and colorfulness of the colors, beside those of grey, of the training
    images' mean color, of another image's colors and of the truth. The network sees each image's
    centre crop, of the size it was trained on. Grey images in a folder are measured as well.
    Temperature and vividness are the run's own if they are not given.

    Example: colorlib evaluate my-first --images photographs/ --limit 500
    """
    shared.load_backend()
    import json

    from colorlib import evaluate

    with shared.explained(ValueError):
        result = evaluate.evaluate(run, images, limit, temperature, vividness)
    typer.echo(json.dumps(result, indent=1) if as_json else evaluate.table(result))


def _show_epoch(epoch, numbers):
    from tqdm.auto import tqdm

    shown = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
    tqdm.write(f"epoch {epoch + 1}  {shown}")


def _show_trial(study, trial):
    from colorlib.experiments import shared_study

    if trial.state.name == "FAIL":
        return
    end = "complete" if trial.state.name == "COMPLETE" else f"ended early, {trial.last_step} epochs"
    loss = float("nan") if trial.value is None else trial.value
    number = shared_study.number_of(trial)
    typer.echo(f"trial {number:3}  l2 {trial.params['l2']:.1e}  {loss:.3f} nats  {end}")
