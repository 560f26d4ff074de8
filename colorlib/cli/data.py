"""The commands `fetch` and `pack`: download photographs and weights, pack photographs into a file.

Not here: the work (`colorlib.data.download`, `colorlib.data.crawler`, `colorlib.store`). These
modules are imported inside the commands, so that ``colorlib --help`` starts fast.
"""

import collections
from pathlib import Path
from typing import Annotated

import typer

from colorlib.cli import shared

fetch = typer.Typer(help="Download photographs or released weights.", no_args_is_help=True)

Destination = Annotated[Path, typer.Argument(help="The folder to write them to.")]


@fetch.command("tiny-imagenet")
def fetch_tiny_imagenet(
    destination: Annotated[
        Path | None, typer.Argument(help="The folder to create; data/tiny-imagenet-200 by default.")
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option(help="A copy on disk: zip, tar, or a folder in the original layout."),
    ] = None,
):
    """Download Tiny ImageNet: 110 000 labelled images of 64x64 pixels, 248 MB.

    An interrupted download is continued; a second call does nothing.
    """
    from colorlib.data import download

    with shared.explained(download.FetchError):
        place = destination or download.TINY_IMAGENET
        typer.echo(f"{download.fetch_tiny_imagenet(place, archive)} is complete")


@fetch.command("urls")
@shared.silent_libraries()
def fetch_urls(
    addresses: Annotated[Path, typer.Argument(help="A text file; each line: URL, or id TAB URL.")],
    destination: Destination,
    per_class: Annotated[
        int | None, typer.Option(min=1, help="Most good images of each class.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most good images in total.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Retry temporary failures.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="Simultaneous requests in total.")] = 64,
    per_host: Annotated[int, typer.Option(min=1, help="Simultaneous requests to one host.")] = 8,
):
    """Download the images of a list of URLs, as the report did with ImageNet's.

    You can stop it at any time; the same call resumes. report.csv has a row for each URL.
    """
    from colorlib.data import crawler

    with shared.explained(crawler.FetchError):
        request_limits = crawler.RequestLimits(concurrency=concurrency, per_host=per_host)
        counts = crawler.fetch_urls(addresses, destination, per_class, limit, again, request_limits)
        _show_counts(counts, destination)


@fetch.command("folder")
@shared.silent_libraries()
def fetch_folder(
    folder: Annotated[Path, typer.Argument(help="Photographs, in subfolders or not.")],
    destination: Destination,
    link: Annotated[bool, typer.Option("--link", help="Hard links instead of copies.")] = False,
):
    """Copy the usable photographs of a folder, and report on the others."""
    from colorlib.data import download

    with shared.explained(download.FetchError):
        _show_counts(download.fetch_folder(folder, destination, link), destination)


@fetch.command("weights")
def fetch_weights(
    name: Annotated[str, typer.Argument(help="zhang-2016 or zhang-2017.")],
    file: Annotated[
        Path | None, typer.Option(help="A copy of the authors' file that is already on disk.")
    ] = None,
):
    """Download a network that the paper's authors released, 129 or 137 MB, and record it as a run.

    zhang-2016 is the network of "Colorful Image Colorization", zhang-2017 that of "Real-Time
    User-Guided Image Colorization", which here colors without a user's hints. Afterwards --run
    zhang-2016 works in all commands. An interrupted download continues; a second call does nothing.

    Example: colorlib fetch weights zhang-2016
    """
    from colorlib.data import download, released

    with shared.explained(download.FetchError):
        typer.echo(f"{released.fetch(name, file)} is complete")


@shared.silent_libraries()
def pack(
    folder: Annotated[Path, typer.Argument(help="Image files, in a subfolder for each class.")],
    output: Annotated[Path, typer.Argument(help="The HDF5 file to create.")],
    size: Annotated[int, typer.Option(min=8, help="Side of the stored squares, in pixels.")] = 64,
    limit: Annotated[int | None, typer.Option(min=1, help="Pack at most so many files.")] = None,
    val: Annotated[int, typer.Option(min=0, help="Number of files for validation.")] = 0,
    test: Annotated[int, typer.Option(min=0, help="Number of files for testing.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
):
    """Pack image files into one HDF5 file of unprocessed 8-bit images.

    Grey and broken images are left out; the file lists them with the reasons. Of several pages or
    frames the first is used; the others are listed and counted as well. With --val or --test, each
    part gets a file of its own and no image is in two of them: of images with equal stored
    squares, only one is used.

    Example: colorlib pack photographs photos.h5 --size 256 --val 60 --test 60
    makes photos-train.h5, photos-val.h5 and photos-test.h5
    """
    from colorlib import store

    held_out = {name: count for name, count in (("val", val), ("test", test)) if count}
    if held_out and limit:
        shared.stop(
            "--limit can't be combined with --val or --test; name a folder with so many files"
        )
    with shared.explained(store.StoreError):
        if held_out:
            for path, packed in store.pack_splits(folder, output, size, held_out, seed).items():
                _show_packed(path, packed)
        else:
            _show_packed(output, store.pack(folder, output, size, limit))
        if others := store.skipped_files(folder):
            typer.echo(f"skipped because of their names: {others}")


def _show_packed(output, packed):
    from colorlib import files, store

    kinds = collections.Counter(grey=0, broken=0)
    for _, reason in packed.dropped:
        if reason.endswith(files.REMEDY):
            typer.echo(f"colorlib: {reason}", err=True)
        elif reason.startswith(store.EQUAL):
            kinds["equal to another one"] += 1
        elif reason.endswith(store.FURTHER):
            kinds[store.FURTHER] += int(reason.split()[0])
        else:
            kinds["grey" if reason == "grey" else "broken"] += 1
    left_out = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
    typer.echo(f"{output}: {len(packed):,} images; left out: {left_out}")


def _show_counts(counts, destination):
    for status, count in counts.most_common():
        typer.echo(f"{count:9,} {status}")
    typer.echo(f"{destination / 'report.csv'} lists the reasons")
