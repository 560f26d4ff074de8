"""The commands that bring photographs and weights to the disk, and pack: `fetch` and `pack`.

Not here: what they call (`colorlib.data.download`, `colorlib.data.crawler`, `colorlib.store`),
imported inside the commands so that ``colorlib --help`` answers at once.
"""

import collections
from pathlib import Path
from typing import Annotated

import typer

from colorlib.cli import shared

fetch = typer.Typer(
    help="Bring photographs and released weights to the disk.", no_args_is_help=True
)

Destination = Annotated[Path, typer.Argument(help="The folder to bring them to.")]


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
    from colorlib.data import download

    with shared.explained(download.FetchError):
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
    from colorlib.data import crawler

    with shared.explained(crawler.FetchError):
        request_limits = crawler.RequestLimits(concurrency=concurrency, per_host=per_host)
        counts = crawler.fetch_urls(addresses, destination, per_class, limit, again, request_limits)
        _show_fates(counts, destination)


@fetch.command("folder")
def fetch_folder(
    folder: Annotated[Path, typer.Argument(help="Photographs, in subfolders or not.")],
    destination: Destination,
    link: Annotated[bool, typer.Option("--link", help="Hard links instead of copies.")] = False,
):
    """Take the usable photographs of a folder, with a report on the others."""
    from colorlib.data import download

    with shared.explained(download.FetchError):
        _show_fates(download.fetch_folder(folder, destination, link), destination)


@fetch.command("weights")
def fetch_weights(
    name: Annotated[str, typer.Argument(help="zhang-2016 or zhang-2017.")],
    file: Annotated[
        Path | None, typer.Option(help="A copy of the authors' file that is already on disk.")
    ] = None,
):
    """Bring a network that the paper's authors released, 129 or 137 MB, and make a run of it.

    zhang-2016 is the network of "Colorful Image Colorization", zhang-2017 that of "Real-Time
    User-Guided Image Colorization", which here colors without a user's hints. Afterwards --run
    zhang-2016 works in all commands. A cut download is continued; a second call does nothing.

    Example: colorlib fetch weights zhang-2016
    """
    from colorlib.data import download, released

    with shared.explained(download.FetchError):
        typer.echo(f"{released.fetch(name, file)} is complete")


def pack(
    folder: Annotated[Path, typer.Argument(help="Image files, in a subfolder for each class.")],
    output: Annotated[Path, typer.Argument(help="The HDF5 file to write.")],
    size: Annotated[int, typer.Option(min=8, help="Side of the stored squares, in pixels.")] = 64,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only so many files.")] = None,
    val: Annotated[int, typer.Option(min=0, help="Files for a store to validate on.")] = 0,
    test: Annotated[int, typer.Option(min=0, help="Files for a store to test on.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Decides which files these are.")] = 0,
):
    """Pack image files into one HDF5 file of unprocessed 8-bit images.

    Grey and broken images are left out and listed, with the reason, in the file. With --val or
    --test there is a file for each part, and no image in two of them: of images whose stored
    squares are equal one is taken.

    Example: colorlib pack photographs photos.h5 --size 256 --val 60 --test 60
    makes photos-train.h5, photos-val.h5 and photos-test.h5
    """
    from colorlib import store

    held_out = {name: count for name, count in (("val", val), ("test", test)) if count}
    if held_out and limit:
        shared.stop("--limit does not go with --val and --test: give a folder of so many files")
    with shared.explained(store.StoreError):
        if held_out:
            for path, packed in store.pack_splits(folder, output, size, held_out, seed).items():
                _show_packed(path, packed)
        else:
            _show_packed(output, store.pack(folder, output, size, limit))
        if others := store.passed_over(folder):
            typer.echo(f"passed over because of their names: {others}")


def _show_packed(output, packed):
    from colorlib import files, store

    kinds = collections.Counter(grey=0, broken=0)
    for _, reason in packed.dropped:
        if reason.endswith(files.REMEDY):
            typer.echo(f"colorlib: {reason}", err=True)
        elif reason.startswith(store.EQUAL):
            kinds["equal to another one"] += 1
        else:
            kinds["grey" if reason == "grey" else "broken"] += 1
    left_out = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
    typer.echo(f"{output}: {len(packed):,} images; left out: {left_out}")


def _show_fates(counts, destination):
    for fate, count in counts.most_common():
        typer.echo(f"{count:9,} {fate}")
    typer.echo(f"{destination / 'report.csv'} says why")
