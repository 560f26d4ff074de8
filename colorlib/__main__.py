"""The command line: nothing but calls into the library.

Heavy modules are imported inside the commands, so that ``colorlib --help`` answers at once.
"""

import contextlib
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

fetch = typer.Typer(help="Bring photographs to the disk.", no_args_is_help=True)
app.add_typer(fetch, name="fetch")

Destination = Annotated[Path, typer.Argument(help="The folder to bring them to.")]

Temperature = Annotated[
    float | None, typer.Option(min=0.0, help="0 takes the likeliest color, 1 the mean.")
]
Vividness = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.5, help="How far rare colors are favored: 0 not at all."),
]

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
    temperature: Temperature = None,
    vividness: Vividness = None,
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

    with _explained(images.ImageError, runs.RunError):
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
        raise typer.Exit(FAILED)


@fetch.command("tiny-imagenet")
def fetch_tiny_imagenet(
    destination: Annotated[
        Path | None, typer.Argument(help="The folder to make; data/tiny-imagenet-200 by default.")
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option(help="A copy on disk: zip, tar, or a folder in the original layout."),
    ] = None,
):
    """Bring Tiny ImageNet: 110 000 labelled images of 64x64 pixels, 248 MB.

    A cut download is continued; a second call does nothing.
    """
    from colorlib import download

    with _explained(download.FetchError):
        place = destination or download.TINY_IMAGENET
        typer.echo(f"{download.fetch_tiny_imagenet(place, archive)} is complete")


@fetch.command("urls")
def fetch_urls(
    addresses: Annotated[Path, typer.Argument(help="A text file: a URL, or id TAB URL, a line.")],
    destination: Destination,
    per_class: Annotated[int | None, typer.Option(min=1, help="Good images of each class.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Good images in all.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Retry what may have passed.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="Addresses fetched at once.")] = 64,
    per_host: Annotated[int, typer.Option(min=1, help="Of these, from one host.")] = 8,
):
    """Bring the images of a list of addresses, as the report did with ImageNet's.

    Stop it at any time; the same call goes on. report.csv has a row for each address.
    """
    from colorlib import crawl, web

    with _explained(crawl.FetchError):
        manners = web.Manners(concurrency=concurrency, per_host=per_host)
        counts = crawl.fetch_urls(addresses, destination, per_class, limit, again, manners)
        _show_fates(counts, destination)


@fetch.command("folder")
def fetch_folder(
    folder: Annotated[Path, typer.Argument(help="Photographs, in subfolders or not.")],
    destination: Destination,
    link: Annotated[bool, typer.Option("--link", help="Hard links instead of copies.")] = False,
):
    """Take the usable photographs of a folder, with a report on the others."""
    from colorlib import download

    with _explained(download.FetchError):
        _show_fates(download.fetch_folder(folder, destination, link), destination)


@app.command()
def pack(
    folder: Annotated[Path, typer.Argument(help="Image files, in a subfolder for each class.")],
    output: Annotated[Path, typer.Argument(help="The HDF5 file to write.")],
    size: Annotated[int, typer.Option(min=8, help="Side of the stored squares, in pixels.")] = 64,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only so many files.")] = None,
):
    """Pack image files into one HDF5 file of unprocessed 8-bit images.

    Grey and broken images are left out and listed, with the reason, in the file.
    """
    from colorlib import store

    with _explained(store.StoreError):
        packed = store.pack(folder, output, size, limit)
    grey = sum(reason == "grey" for _, reason in packed.dropped)
    broken = len(packed.dropped) - grey
    typer.echo(f"{output}: {len(packed):,} images; left out: {grey:,} grey, {broken:,} broken")


@app.command()
def train(
    preset: Annotated[str, typer.Argument(help="MODEL_64, REPORT_64, REPORT_256 or OVERFIT.")],
    data: Annotated[list[Path], typer.Option(help="A store to train on; repeat for shards.")],
    val: Annotated[list[Path], typer.Option(help="A store to validate on; repeat for shards.")],
    run: Annotated[str, typer.Option(help="The run's name in data/runs, or its folder.")],
    precision: Annotated[str | None, typer.Option(help="float32 or mixed_bfloat16.")] = None,
    width: Annotated[float | None, typer.Option(help="Factor on the channel counts.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    workers: Annotated[int, typer.Option(min=0, help="Threads that prepare batches.")] = 2,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log for it.")] = False,
    save_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 60.0,
):
    """Train a preset, changed by the options, and record the run.

    Stop it with Ctrl-C, or kill it: the same command goes on, and ends with the same weights.

    Example: colorlib train MODEL_64 --data train.h5 --val val.h5 --run my-first
    """
    _load_backend()
    import keras
    import numpy as np

    from colorlib import config, runs, samples, store, training, watching

    if preset not in config.PRESETS:
        _stop(f"no preset {preset!r}; choose from {', '.join(config.PRESETS)}")
    changes = dict(precision=precision, width=width, epochs=epochs, batch_size=batch_size)
    given = {name: value for name, value in changes.items() if value is not None}
    path = Path(run) if "/" in run else config.RUNS / run
    with _explained(store.StoreError, runs.RunError, ValueError):
        images = store.Store(*data)
        callbacks = [watching.EpochLines(len(images))]
        if tensorboard:
            callbacks.append(keras.callbacks.TensorBoard(path / "tensorboard"))
        settings = config.PRESETS[preset].replace(**given)
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
            _stop(f"stopped; what was done is in {path}, and the same command goes on")
    typer.echo(f"the run is in {path}")


@app.command()
def evaluate(
    run: Annotated[
        str, typer.Argument(help="A recorded run: its name in data/runs, or its folder.")
    ],
    images: Annotated[
        Path, typer.Option(help="A folder of image files, or a file that `colorlib pack` wrote.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=2, help="Measure only so many images, spread evenly.")
    ] = None,
    temperature: Temperature = None,
    vividness: Vividness = None,
):
    """Measure how good a run's colors are, next to those of chance.

    Cross-entropy and accuracy of the predicted distributions; AuC, rebalanced AuC (Zhang et al.
    2016, section 3.1), PSNR and colorfulness of the colors, beside those of grey, of the training
    images' mean color, of another image's colors and of the truth. The network sees each image's
    centre crop, of the size it was trained on. Grey images in a folder are measured as well.
    Temperature and vividness are the run's own if they are not given.

    Example: colorlib evaluate my-first --images photographs/ --limit 500
    """
    _load_backend()
    import json

    from colorlib import evaluate, runs, store

    with _explained(store.StoreError, runs.RunError):
        result = evaluate.evaluate(run, images, limit, temperature, vividness)
    typer.echo(json.dumps(result, indent=1) if as_json else evaluate.table(result))


@app.command()
def search(
    data: Annotated[
        list[Path], typer.Option(help="A store to take images from; repeat for shards.")
    ],
    study: Annotated[str, typer.Option(help="A file, made if missing, or a database's URL.")],
    stage: Annotated[str, typer.Option(help="coarse: 1e-7 to 1. fine: where coarse was best.")],
    trials: Annotated[
        int | None, typer.Option(min=1, help="Of the stage, by all processes together; 20 or 12.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="To train on; as many more validate.")] = 256,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of each trial.")] = None,
    width: Annotated[float | None, typer.Option(help="Factor on the channel counts.")] = None,
    silence: Annotated[
        int, typer.Option(min=2, help="Seconds after which a silent process counts as dead.")
    ] = 60,
    record: Annotated[
        str | None, typer.Option(help="Write the trials as text: a name in data/runs, or a folder.")
    ] = None,
):
    """Search the L2 constant at random, coarse to fine, as the report did.

    Call it in several terminals at once, or, with the URL of a database, on several machines: they
    share the trials. Stop it with Ctrl-C, or kill it: the same command goes on. Hopeless trials are
    ended early; what is compared is the validation loss without the penalty.

    Example: colorlib search --data train.h5 --study l2.db --stage coarse
    """
    _load_backend()
    from colorlib import config, generator, search, store, studies

    changes = {"epochs": epochs, "width": width}
    given = {name: value for name, value in changes.items() if value is not None}
    settings = config.SEARCH.replace(**given)
    with _explained(store.StoreError, generator.RecordError, studies.StudyError):
        small = search.small_set(store.Store(*data), images, settings.image_size)
        budget = trials or (20 if stage == "coarse" else 12)
        try:
            search.search(settings, small, study, stage, budget, True, _show_trial, silence)
        except KeyboardInterrupt:
            _stop(f"stopped; the trial in hand is put back into {study}, the same command goes on")
        best = studies.best(study, stage)
        typer.echo(f"{stage}: l2 = {best['l2']:.1e} is best, {best['loss']:.3f} nats per pixel")
        if record:
            path = Path(record) if "/" in record else config.RUNS / record
            studies.record(study, path)
            typer.echo(f"the trials are in {path}")


@contextlib.contextmanager
def _explained(*errors):
    try:
        yield
    except errors as error:
        _stop(error)


def _show_fates(counts, destination):
    for fate, count in counts.most_common():
        typer.echo(f"{count:9,} {fate}")
    typer.echo(f"{destination / 'report.csv'} says why")


def _show_trial(trial):
    end = "complete" if trial.state.name == "COMPLETE" else f"ended early, {trial.last_step} epochs"
    loss = float("nan") if trial.value is None else trial.value
    typer.echo(f"trial {trial.number:3}  l2 {trial.params['l2']:.1e}  {loss:.3f} nats  {end}")


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
