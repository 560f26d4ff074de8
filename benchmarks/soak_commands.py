"""The commands that `soak.py` kills: how each is called, its result, and how its files are damaged.

Not here: the kills and the disturbances (`soak.py`). The photographs, the store and the film are
small and made of the sample photographs; the server on 127.0.0.1 is the tests' misbehaving one.
"""

import contextlib
import csv
import hashlib
import sys

import av
import numpy as np

from colorlib import config, images, runs, samples, store
from colorlib.data import manifest
from colorlib.photos import outputs

sys.path.append(str(config.ROOT / "tests"))
import misbehaving_server
import shallow

SHARES = {
    "fetch urls": 10,
    "pack": 10,
    "colorize folder": 12,
    "colorize film": 8,
    "train": 3,
    "search": 2,
}
"""How many of the kills each command gets, in proportion: a training takes seconds to start."""

PHOTOGRAPHS, FRAMES = 40, 300

SMALL = ("--working-size", 32)
"""The network is not what is tested."""

FAULTY = (
    "status/404",
    "status/500",
    "html",
    "grey",
    "placeholder",
    "empty",
    "small",
    "loop",
    "cmyk",
)

CHECKPOINT, STATE = "checkpoint-*.npz", "state"
"""As in `colorlib.callbacks`; Keras need not start here."""

IGNORED = (".lock", "lock")


@contextlib.contextmanager
def prepared(home):
    """Make what the commands read; yield name -> command."""
    given = home / "given"
    (given / "photographs").mkdir(parents=True)
    for number, rgb in enumerate(samples.patches(PHOTOGRAPHS, 96)):
        place = given / "photographs" / ("cat", "dog")[number % 2]
        place.mkdir(exist_ok=True)
        images.write(place / f"{number:03}.jpg", rgb)
    squares = samples.patches(40, 64)
    store.write(given / "train.h5", squares[:32])
    store.write(given / "val.h5", squares[32:])
    write_film(given / "film.mp4")
    with misbehaving_server.Server(pause=0.05) as server:
        paths = [f"good/{number}" for number in range(PHOTOGRAPHS)] + list(FAULTY)
        lines = [f"n{n % 3}_{n}\t{server.url('/' + path)}" for n, path in enumerate(paths)]
        (given / "urls.txt").write_text("\n".join(lines))
        kinds = (FetchUrls, Pack, ColorizeFolder, ColorizeFilm, Train, Search)
        yield dict(zip(SHARES, (kind(given) for kind in kinds), strict=True))


def write_film(path):
    """Write a film of a photograph that moves."""
    rgb = samples.square("china", 200)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for number in range(FRAMES):
            part = rgb[number % 100 :][:64, number % 70 :][:, :96]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(part), "rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def contents(folder, skip=()):
    """Return the hash of each file below a folder; also of hidden ones: none may be left over."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (*IGNORED, *skip)
    }


def arrays_of(path):
    """Return the hashes of the arrays in an NPZ file."""
    with np.load(path) as found:
        return {
            f"{path.name}:{name}": hashlib.sha256(found[name].tobytes()).hexdigest()
            for name in found.files
            if name != STATE
        }


def cut_or_flip(path, random):
    """Damage a file; return its name."""
    data = bytearray(path.read_bytes())
    if random.random() < 0.5 or not data:
        data = data[: random.randrange(len(data) + 1)]
    else:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    path.write_bytes(data)
    return path.name


def damage_one(paths, random):
    """Damage one of these files; return its name, or None if there is none."""
    paths = sorted(paths)
    return cut_or_flip(random.choice(paths), random) if paths else None


class Kind:
    """A command that reads what `prepared` wrote."""

    first = ""
    """Code that runs before it."""

    def __init__(self, given):
        self.given = given

    def result(self, folder):
        """Return what has to be the same, by name."""
        return contents(folder)

    def damage(self, folder, random):
        """Damage a file that a killed call left; return its name, or None."""
        return None


class FetchUrls(Kind):
    """``fetch urls``: the files, and the rows of the report without the reasons."""

    def arguments(self, folder):
        urls = self.given / "urls.txt"
        return ["fetch", "urls", urls, folder / "out", "--concurrency", 4, "--per-host", 4]

    def result(self, folder):
        found = contents(folder, (manifest.JOURNAL, manifest.REPORT))
        with (folder / "out" / manifest.REPORT).open(newline="") as file:
            for row in csv.DictReader(file):
                row.pop("why")
                found[row["url"].rpartition(":")[2]] = row
        return found

    def damage(self, folder, random):
        return damage_one(folder.glob(f"out/{manifest.JOURNAL}"), random)


class Pack(Kind):
    """``pack``: the pixels, names and classes of both stores; HDF5 notes the time in each."""

    def arguments(self, folder):
        photographs = self.given / "photographs"
        return ["pack", photographs, folder / "out.h5", "--size", 48, "--val", 8]

    def result(self, folder):
        found = contents(folder)
        for path in folder.glob("out-*.h5"):
            there = store.Store(path)
            described = there.names, there.classes, there.class_ids.tolist(), there.dropped
            found[path.name] = store.checksum(there), described
        return found


class ColorizeFolder(Kind):
    """``colorize`` of photographs: the files, bit for bit; the list beside them has each once."""

    def arguments(self, folder):
        return ["colorize", self.given / "photographs", "-r", "-o", folder / "out", *SMALL]

    def result(self, folder):
        found = contents(folder, (outputs.LIST,))
        for path in folder.rglob(outputs.LIST):
            found[str(path)[len(str(folder)) :]] = sorted(
                entry.file for entry in outputs.Records()._of(path.parent).values()
            )
        return found


class ColorizeFilm(Kind):
    """``colorize`` of a film: the file, bit for bit."""

    def arguments(self, folder):
        return ["colorize", self.given / "film.mp4", "-o", folder / "film.mp4", *SMALL]

    def result(self, folder):
        return contents(folder, (outputs.LIST,))

    def damage(self, folder, random):
        return damage_one(folder.glob(".film.mp4.partial/0*"), random)


class Train(Kind):
    """``train``: weights, predictions, last checkpoint and history without speeds, bit for bit."""

    def arguments(self, folder):
        data = ["--data", self.given / "train.h5", "--val", self.given / "val.h5"]
        tiny = ["--width", 0.0625, "--batch-size", 8, "--epochs", 15, "--precision", "float32"]
        return [
            "train",
            "MODEL_64_QUARTER",
            *data,
            *tiny,
            "--run",
            folder / "run",
            "--save-every",
            0,
        ]

    def result(self, folder):
        run = folder / "run"
        history = runs.load_run(run).history
        history.pop("images_per_second")
        newest = sorted((run / runs.CHECKPOINTS).glob(CHECKPOINT))[-1]
        timed = (runs.PREDICTIONS, "history.csv", "environment.json")
        files = {name: x for name, x in contents(run, timed).items() if "checkpoint" not in name}
        left = {str(path): "left over" for path in run.rglob("*.partial")}
        return files | history | arrays_of(newest) | arrays_of(run / runs.PREDICTIONS) | left

    def damage(self, folder, random):
        newest = sorted((folder / "run" / runs.CHECKPOINTS).glob(CHECKPOINT))[-1:]
        return damage_one(newest, random)


class Search(Kind):
    """``search``: the constants that were tried and the losses of complete trials, exactly."""

    first = f"{shallow.HERE}; "

    def arguments(self, folder):
        study = ["--study", folder / "l2.db", "--stage", "coarse", "--heartbeat-timeout", 2]
        tiny = ["--trials", 3, "--images", 8, "--epochs", 3, "--width", 0.03125]
        return ["search", "--data", self.given / "train.h5", *study, *tiny]

    def result(self, folder):
        from colorlib.experiments import l2_search

        rows = l2_search.table(folder / "l2.db")
        return {row["l2"]: (row["state"], row["loss"]) for row in rows if row["state"] != "fail"}
