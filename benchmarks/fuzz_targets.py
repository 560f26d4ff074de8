"""What `fuzz.py` damages, and what is done with it: small real files, and colorlib's way with each.

Not here: the damage and the processes (`fuzz.py`). The seeds are made of the sample photographs by
the libraries that colorlib depends on. A target raises what colorlib raises; a line that a command
would print, it raises as `Refused`.
"""

import contextlib
import functools
import io
import json
import shutil
import sys
import warnings
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from colorlib import colorize, config, images, inference, runs, samples, store, table
from colorlib.data import manifest, sharing
from colorlib.photos import batch, outputs
from colorlib.video import pipeline, segments, smoothing

sys.path.append(str(config.ROOT / "tests"))
import state_dict_writer

SHAPE = (48, 64)
"""Height and width of the pictures."""

FRAMES = 10

TINY = config.TrainConfig(width=config.WIDTHS[0], epochs=1)
"""Of a run of a few kilobytes."""

SMALL = {"working_size": 16}
"""The networks see little of a photograph: what is tested is reading and writing."""

HINTS = b"x,y,color\n3,4,#2e6b34\n40,20,darkgreen\n63,47,#ff0000\n"

PHOTOGRAPHS = ("JPEG", "PNG", "TIFF", "WEBP", "HEIF", "AVIF", "GIF", "BMP")


FILMS = {
    "MP4": {"film.mp4": ("mp4", "libx264", "aac")},
    "MKV": {"film.mkv": ("matroska", "libx264", "libopus")},
    "other films": {
        "film.avi": ("avi", "mpeg4", "libmp3lame"),
        "film.webm": ("webm", "libvpx", "libopus"),
        "film.ts": ("mpegts", "mpeg2video", "mp2"),
        "film.flv": ("flv", "flv", "libmp3lame", 44_100),
        "film.ogv": ("ogg", "libvpx", "libopus"),
        "film.wmv": ("asf", "wmv2", "libmp3lame"),
    },
}
"""Format -> name -> arguments of `film`."""


class Refused(Exception):
    """A file that is refused with a line."""


def pictures(count):
    """Return small sample photographs, uint8 of shape (48, 64, 3)."""
    names = [samples.NAMES[number % len(samples.NAMES)] for number in range(count)]
    size = SHAPE[::-1]
    return [cv2.resize(samples.load(name), size, interpolation=cv2.INTER_AREA) for name in names]


def squares(count):
    """Return smaller ones as squares, uint8 of shape (n, 16, 16, 3)."""
    return np.stack([images.square(rgb, 16) for rgb in pictures(count)])


def seeds(form):
    """Make the files of a format that are damaged.

    Parameters
    ----------
    form : str
        A key of `TARGETS`.

    Returns
    -------
    dict of str to bytes
        Name -> content.
    """
    if form in PHOTOGRAPHS:
        return photographs()[form]
    if form in FILMS:
        return {name: film(*how) for name, how in FILMS[form].items()}
    return MAKERS[form]()


@functools.cache
def photographs():
    """Make image files of each format that is read."""
    made = {image_format: {} for image_format in PHOTOGRAPHS}
    frames = [Image.fromarray(rgb) for rgb in pictures(3)]
    first, more = frames[0], dict(save_all=True, append_images=frames[1:])
    grey, clear = first.convert("L"), first.convert("RGBA")
    clear.putalpha(grey)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    exif.get_ifd(0x8769)[0x9003] = "1926:01:01 00:00:00"
    text = PngImagePlugin.PngInfo()
    text.add_itxt("Comment", "a photograph", zip=True)

    def add(name, image, image_format, **options):
        file = io.BytesIO()
        image.save(file, image_format, **options)
        made[image_format][name] = file.getvalue()

    images.format_of("a.heic")  # makes HEIF known
    add("plain.jpg", first, "JPEG", exif=exif, icc_profile=profile, dpi=(300, 300))
    add("progressive.jpg", first, "JPEG", progressive=True, subsampling=0)
    add("grey.jpg", grey, "JPEG")
    add("cmyk.jpg", first.convert("CMYK"), "JPEG")
    add("plain.png", first, "PNG", exif=exif, icc_profile=profile, pnginfo=text)
    add("palette.png", first.quantize(16), "PNG", transparency=3)
    add("clear.png", clear, "PNG")
    add("moving.png", first, "PNG", **more, duration=40)
    add("bilevel.png", first.convert("1"), "PNG")
    deep = first_deep = np.uint16(pictures(1)[0]) * 257
    for name, pixels in {"deep.png": deep, "deep_grey.png": first_deep[..., 0]}.items():
        made["PNG"][name] = cv2.imencode(".png", pixels)[1].tobytes()
    add("plain.tif", first, "TIFF", exif=exif, icc_profile=profile, dpi=(300, 300))
    for packing in ("lzw", "adobe_deflate", "jpeg", "packbits"):
        add(f"{packing}.tif", first, "TIFF", compression=f"tiff_{packing}".replace("tiff_j", "j"))
    add("pages.tif", first, "TIFF", **more)
    add("fax.tif", first.convert("1"), "TIFF", compression="group4")
    add("float.tif", Image.fromarray(np.float32(grey) / 255), "TIFF")
    add("cmyk.tif", first.convert("CMYK"), "TIFF")
    made["TIFF"]["deep.tif"] = cv2.imencode(".tiff", deep)[1].tobytes()
    add("lossy.webp", first, "WEBP", exif=exif, icc_profile=profile)
    add("lossless.webp", clear, "WEBP", lossless=True)
    add("moving.webp", first, "WEBP", **more)
    add("plain.heic", first, "HEIF", exif=exif.tobytes())
    add("clear.heic", clear, "HEIF")
    add("pages.heic", first, "HEIF", **more)
    add("plain.avif", first, "AVIF", exif=exif, icc_profile=profile)
    add("clear.avif", clear, "AVIF")
    add("moving.avif", first, "AVIF", **more)
    add("still.gif", first, "GIF")
    add("moving.gif", first, "GIF", **more, duration=40, loop=2)
    add("clear.gif", clear, "GIF", **more, disposal=2)
    add("plain.bmp", first, "BMP")
    add("palette.bmp", first.quantize(16), "BMP")
    return made


def film(container, codec, sound_codec, rate=48_000):
    """Return the bytes of a film of ten frames, with sound."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        shown = out.add_stream(codec, rate=10)
        shown.height, shown.width, shown.pix_fmt = *SHAPE, "yuv420p"
        heard = out.add_stream(sound_codec, rate=rate, layout="mono")
        for rgb in pictures(FRAMES):
            out.mux(shown.encode(av.VideoFrame.from_ndarray(rgb, "rgb24")))
        out.mux(shown.encode(None))
        form = heard.codec_context.format.name
        count = heard.codec_context.frame_size or 960
        resampler = av.AudioResampler(form, "mono", rate)
        for number in range(rate // count):
            wave = np.zeros((1, count), np.float32)
            wave[0] = np.sin(np.arange(count) / 20)
            sound = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
            sound.sample_rate, sound.time_base, sound.pts = rate, Fraction(1, rate), number * count
            for part in resampler.resample(sound):
                out.mux(heard.encode(part))
        out.mux(heard.encode(None))
    return file.getvalue()


def stored():
    """Return the bytes of a store of six images."""
    with scratch() as folder:
        names = [f"{number}.jpg" for number in range(6)]
        store.write(folder / "a.h5", squares(6), names, ["cat", "dog"] * 3, [("x.jpg", "grey")])
        return (folder / "a.h5").read_bytes()


@contextlib.contextmanager
def scratch():
    """Hand out a temporary folder."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@functools.cache
def run_files():
    """Return the files of a tiny recorded run: name -> bytes."""
    rows, rng, weights = table.layers(TINY.network, TINY.width), np.random.default_rng(0), {}
    for row, _, shapes in inference._places(rows):
        parts = {part: rng.uniform(0, 1, shape) for part, shape in shapes.items()}
        if "kernel" in parts:
            parts["kernel"] = parts["kernel"].transpose(inference._from_keras(shapes["kernel"]))
        weights[row.name] = {part: np.float16(array) for part, array in parts.items()}
    texts = {
        "config.json": {"settings": TINY.to_dict(), "data": {"train_images": 6}},
        "environment.json": {"python": "3.11", "cpus": 2},
        "prior.json": [1 / table.BINS] * table.BINS,
        "decoding.json": config.DecodeConfig(working_size=16, vividness=0.5).to_dict(),
    }
    return {
        **{name: json.dumps(value, indent=1).encode() for name, value in texts.items()},
        "history.csv": b"epoch,loss,val_loss\n1,5.5,5.6\n",
        runs.WEIGHTS: bytes(inference.weights_file(rows, weights)),
    }


def zipped(contents):
    """Return the bytes of a zip file of a run."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(f"net/{name}", data)
    return file.getvalue()


def exported():
    """Return the bytes of the tiny run's ONNX file."""
    from colorlib import export

    with scratch() as folder:
        write_run(folder / "net")
        export.export(folder / "net", folder / "net.onnx")
        return (folder / "net.onnx").read_bytes()


def write_run(folder, **changed):
    """Write the tiny run, with other contents of some files."""
    folder.mkdir()
    for name, data in (run_files() | changed).items():
        (folder / name).write_bytes(data)
    return folder


def arrays():
    """Return the bytes of a training's checkpoint, of its predictions and of a film's segment."""
    from colorlib import callbacks

    state = {"rows": [{"epoch": 1, "loss": 5.5, "val_loss": 5.6}], "plateau": {}}
    coded = np.frombuffer(json.dumps(state).encode(), np.uint8)
    seen = np.zeros((1, 2, 4, 4, 2), np.int8)
    ab = np.zeros((4, 6, 2), np.float32)
    checkpoint = segments.SegmentCheckpoint(
        FRAMES, 0, 9, 9, 1, state=smoothing.TemporalSmoothing(ab, ab[..., 0])
    )
    with scratch() as folder:
        segments.save(folder / "00000.mp4", checkpoint)
        segment = (folder / "00000.npz").read_bytes()
    captured = callbacks.capture(trained())
    return {
        "checkpoint-000001.npz": npz(**captured, **{callbacks.STATE: coded}),
        runs.PREDICTIONS: npz(plain=seen, vivid=seen),
        "00000.npz": segment,
    }


def npz(**values):
    """Return the bytes of an NPZ file."""
    file = io.BytesIO()
    np.savez(file, **values)
    return file.getvalue()


@functools.cache
def trained():
    """Build the tiny network as a training does."""
    from colorlib import training

    network = training.new_network(TINY, 1, np.full(table.BINS, 1 / table.BINS))
    network.optimizer.build(network.trainable_variables)
    return network


def state_dicts():
    """Return the bytes of a state dict in both of PyTorch's formats."""
    made, weights = {}, np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    with pytest.MonkeyPatch.context() as patch, scratch() as folder:
        state_dict_writer.fake_torch(patch)
        tensors = [state_dict_writer.tensor(f"{k}", weights + k) for k in range(3)]
        state = {f"model1.{2 * k}.weight": tensor for k, tensor in enumerate(tensors)}
        for form, write in state_dict_writer.WRITERS.items():
            write(folder / form, state, [tensor.storage for tensor in tensors])
            made[f"{form}.pth"] = (folder / form).read_bytes()
    return made


def listed():
    """Return the bytes of a list of colored files."""
    with scratch() as folder:
        for name in ("a.jpg", "b.jpg"):
            (folder / name).write_bytes(b"any")
            entry = outputs.entry_of(folder / name, folder / name, "0" * 16)
            outputs.record(folder / name, entry)
        return (folder / outputs.LIST).read_bytes()


def journal():
    """Return the bytes of a download's journal."""
    row = dict(why="", file="a.jpg", format="JPEG", width=64, height=48, bytes=3, sha256="0" * 64)
    fields = manifest.Outcome.__dataclass_fields__
    row = {name: row.get(name, "") for name in fields} | {"status": "good"}
    lines = [{"url": f"http://a/{number}", **row} for number in range(2)]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@functools.cache
def colorizer(run=config.DEFAULT_RUN):
    """Make the colorizer of a recorded run once."""
    return colorize.colorizer_for(run, **SMALL)


def photograph(path):
    """Color a photograph as the command does."""
    check(*batch.color_all(colorizer(), plan(path), overwrite=True, at_once=1))


def moving(path):
    """Color a film as the command does."""
    check(*pipeline.color_all(colorizer(), plan(path), overwrite=True))


def hinted(path):
    """Color a photograph by hints as the command does."""
    (job,) = plan(clean_photograph())
    check(batch.color_hinted(colorizer(config.HINTS_RUN), job, path, overwrite=True))


def plan(path):
    """Plan the coloring of one file into an empty folder beside it."""
    shutil.rmtree(path.parent / "out", ignore_errors=True)
    return batch.plan([path], path.parent / "out", overwrite=True)


@functools.cache
def clean_photograph():
    """Write an undamaged photograph."""
    import tempfile

    path = Path(tempfile.mkdtemp()) / "clean.png"
    images.write(path, pictures(1)[0])
    return path


def check(outcome):
    """Raise what went wrong; what was colored has to be a file that can be read."""
    if outcome.status == batch.FAILED:
        raise Refused(outcome.why)
    if batch.is_film(outcome.job.target):
        from colorlib.video import io as films

        with films.Reader(outcome.job.target) as reader:
            next(reader.frames())
    else:
        images.read(outcome.job.target)


def opened_store(path):
    """Open a store as a training does."""
    found = store.Store(path)
    found.read(range(min(len(found), 8)))
    store.checksum(found)


def loaded_run(path):
    """Color with a run of which one file is damaged, and describe it."""
    with scratch() as folder:
        where = write_run(folder / path.name, **{path.name: path.read_bytes()})
        with told(where, path):
            colorize.colorizer_for(where)(pictures(1)[0])
            sharing.describe(where)


def imported(path):
    """Import a run's zip file; where the file is none, one that holds it."""
    with scratch() as folder:
        if path.suffix != ".zip":
            where = folder / path.with_suffix(".zip").name
            where.write_bytes(zipped({path.name: path.read_bytes()} | run_files()))
            with told(where, path):
                sharing.unpack(where, "net", folder / "runs")
        else:
            sharing.unpack(path, "net", folder / "runs")


@contextlib.contextmanager
def told(place, path):
    """Take a line that names a place in the scratch folder as one that names the damaged file."""
    try:
        yield
    except ValueError as error:
        raise type(error)(str(error).replace(str(place), str(path))) from error


def resumed(path):
    """Go on with what a stopped training or a stopped film left."""
    from colorlib import callbacks

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if path.name == runs.PREDICTIONS:
            seen = callbacks.Predictions(path, squares(2), np.ones(table.BINS))
            seen.set_model(trained())
            seen.on_epoch_end(1)
        elif path.name.startswith("checkpoint"):
            restored(path)
        else:
            segment = path.with_suffix(".mp4")
            segment.touch()  # its CRC-32 is 0, as the checkpoint says
            if segments._load(segment) is None:
                raise Refused(f"{path}: not continued")  # the film is colored again, without a word
    if said:
        raise Refused(str(said[0].message))


def restored(path):
    """Restore a training from a checkpoint, and ask it for the epochs that are done."""
    from colorlib import callbacks

    with scratch() as folder:
        there = folder / runs.CHECKPOINTS
        there.mkdir()
        (there / path.name).write_bytes(path.read_bytes())
        log = callbacks.EpochLog(6)
        checkpoint = callbacks.Checkpoint(folder, log, callbacks.BestWeights(folder / "w", log))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            done = checkpoint.restore(trained())
        if said:
            raise Refused(str(said[0].message).replace(str(there), str(path.parent)))
        assert done == 1


def read_state_dict(path):
    """Read a state dict."""
    from colorlib import state_dicts

    state_dicts.read(path)


def planned(path):
    """Continue where a list of colored files, or a download's journal, says that others stopped."""
    with scratch() as folder:
        (folder / path.name).write_bytes(path.read_bytes())
        if path.name == manifest.JOURNAL:
            with manifest.Manifest(folder) as there:
                there.write_report([manifest.Entry(1, "a", "http://a/0")])
        else:
            batch.plan([clean_photograph()], folder, overwrite=True)


@functools.cache
def pieces():
    """Return the files of which pieces are put into others."""
    return [data for files in photographs().values() for data in files.values()]


MAKERS = {
    "HDF5 store": lambda: {"images.h5": stored()},
    "HDF5 weights": lambda: {runs.WEIGHTS: run_files()[runs.WEIGHTS]},
    "NPZ": arrays,
    "PTH": state_dicts,
    "ZIP of a run": lambda: {"run.zip": zipped(run_files())},
    "ONNX": lambda: {"net.onnx": exported()},
    "JSON of runs": lambda: {k: x for k, x in run_files().items() if k != runs.WEIGHTS},
    "JSON of outputs": lambda: {outputs.LIST: listed(), manifest.JOURNAL: journal()},
    "CSV of hints": lambda: {"hints.csv": HINTS},
}
"""Format -> what makes its seeds."""

TARGETS = {
    **dict.fromkeys(PHOTOGRAPHS, photograph),
    **dict.fromkeys(FILMS, moving),
    "HDF5 store": opened_store,
    "HDF5 weights": loaded_run,
    "NPZ": resumed,
    "PTH": read_state_dict,
    "ZIP of a run": imported,
    "ONNX": imported,
    "JSON of runs": loaded_run,
    "JSON of outputs": planned,
    "CSV of hints": hinted,
}
"""Format -> what is done with a damaged file."""
