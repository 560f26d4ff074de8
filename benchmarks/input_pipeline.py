"""How fast the network can be fed: the report's three ways, ours, and the physical floor.

    python benchmarks/input_pipeline.py [--seconds 4] [--store TRAIN.h5] [--json RESULTS.json]

One table from one run, for 64x64 images with 56x56 crops and for 256x256 with 176x176, in batches
as large as the presets'. The images of 64 pixels are Tiny ImageNet's if `data/train.h5` (or another
store that is named) is there; else, and at 256 pixels, they are patches of the sample photographs.
Chapter 3 of the report.

The rows:

1. a file per image, read and encoded as the report did: a ball tree fitted for each image, dense
   targets over 313 bins;
2. one HDF5 file of processed data: lightness and dense targets;
3. one HDF5 file of unprocessed images, encoded as in 1, by 1, 2 or 4 worker processes;
4. ours: `colorlib.store` and `colorlib.generator`;
5. the floor: nothing but OpenCV's color conversion of as many such crops, on as many threads; the
   crops lie in memory one after the other, and the results are dropped at once.

Rows 4 and 5 take turns, an epoch each, so that other work on the machine slows both alike. Their
ratio is the median over the turns.
"""

import os
import platform
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import h5py
import harness
import numpy as np
from sklearn.neighbors import BallTree

from colorlib import colorspace, config, generator, images, quantizer, samples, store

COLUMNS = ("way", "bytes_per_image", "images_per_second", "cpu_seconds_per_1000")
SETTINGS = (
    (config.REPORT_64.replace(batch_size=128), 4096),
    (config.REPORT_256.replace(batch_size=32), 512),
)
"""Sizes and crops of the report in batches that keep a pipeline busy, and how many images."""
JOBS = 8
"""Different batches in rows 1 and 3."""

PROCESSED = 256
"""Images in row 2's file: at up to 2.5 MB each."""


def encode_like_the_report(rgb):
    """Encode one crop: float Lab, a ball tree fitted again, dense targets."""
    lab = colorspace.rgb_to_lab(rgb)
    side = len(rgb) // generator.STRIDE
    ab = cv2.resize(lab[..., 1:], (side, side), interpolation=cv2.INTER_AREA).reshape(-1, 2)
    tree = BallTree(quantizer.bin_centers())
    distances, bins = tree.query(ab, k=quantizer.NEIGHBORS)
    weights = np.exp(-(distances**2) / (2 * quantizer.SIGMA**2))
    weights /= weights.sum(axis=1, keepdims=True)
    dense = np.zeros((side * side, quantizer.BINS), np.float32)
    np.put_along_axis(dense, bins, weights.astype(np.float32), axis=1)
    return lab[..., :1], dense.reshape(side, side, quantizer.BINS)


def crop_and_encode(rgb, crop, rng):
    """Cut a random crop out of each image and encode it as the report did."""
    room = rgb.shape[1] - crop + 1
    corners = rng.integers(room, size=(len(rgb), 2))
    crops = (x[y : y + crop, z : z + crop] for x, (y, z) in zip(rgb, corners, strict=True))
    pairs = [encode_like_the_report(np.ascontiguousarray(part)) for part in crops]
    return tuple(map(np.stack, zip(*pairs, strict=True)))


def batch_of_files(paths, crop, seed):
    """Row 1."""
    return crop_and_encode(np.stack([images.read(path) for path in paths]), crop, rng_for(seed))


def batch_of_processed(path, part):
    """Row 2."""
    with h5py.File(path) as file:
        return file["lightness"][part], file["targets"][part]


def batch_of_unprocessed(path, indices, crop, seed):
    """Row 3."""
    with h5py.File(path) as file:
        return crop_and_encode(file["images"][sorted(indices)], crop, rng_for(seed))


def rng_for(seed):
    return np.random.default_rng(seed)


def timed(job):
    """Do a job; return how many images it gave, and the CPU seconds of this process."""
    start = time.process_time()
    batch = job()
    return batch, time.process_time() - start


def measure(jobs, seconds, workers=0):
    """Do jobs over and over for a while; return images/s and CPU seconds per 1000 images.

    With workers they are processes, as Keras' own were, and the batches come back through pipes.
    """
    if not workers:
        return _measure(jobs, seconds, partial(map, timed), own=False)
    with ProcessPoolExecutor(workers, get_context("forkserver")) as pool:
        list(pool.map(timed, jobs[: 2 * workers]))  # starts the processes
        return _measure(jobs, seconds, partial(pool.map, timed), own=True)


def _measure(jobs, seconds, run, own):
    images_done, children, wall, cpu = 0, 0.0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        for batch, used in run(jobs):
            images_done += len(batch[0])
            children += used
            if not own and time.perf_counter() - wall > seconds:
                break
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return images_done / wall, 1000 * (cpu + own * children) / images_done


def measure_turns(batches, rgb, seconds):
    """Rows 4 and 5 in turns: two pairs as from `measure`, and the ratio of their times."""
    crops = np.ascontiguousarray(rgb[:, : batches.crop, : batches.crop])
    parts = np.array_split(crops, len(batches))
    ours, floor, start = [], [], time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while len(ours) < 3 or time.perf_counter() - start < 2 * seconds:
            ours.append(turn(lambda: [len(batches[k][0]) for k in range(len(batches))]))
            batches.epoch += 1
            threads = cv2.getNumThreads()
            cv2.setNumThreads(1)  # faster than OpenCV's own threads below ours
            floor.append(turn(lambda: list(pool.map(convert, parts))))
            cv2.setNumThreads(threads)
    ours, floor = np.array(ours[1:]) / len(rgb), np.array(floor[1:]) / len(rgb)
    rows = [(1 / wall, 1000 * cpu) for wall, cpu in (np.median(x, axis=0) for x in (ours, floor))]
    return *rows, np.median(ours[:, 0] / floor[:, 0])


def turn(job):
    """Do a job once; return the seconds it took, and the CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - wall, time.process_time() - cpu


def convert(rgb):
    """Row 5, for one batch."""
    colorspace.rgb_to_lab8(rgb.reshape(1, -1, 3))


def prepare(folder, rgb, crop):
    """Write the images in each of the forms; return paths and bytes on disk."""
    files = [folder / f"{i}.jpg" for i in range(len(rgb))]
    for path, image in zip(files, rgb, strict=True):
        images.write(path, image)
    lightness, targets = crop_and_encode(rgb[:PROCESSED], crop, rng_for(0))
    with h5py.File(folder / "processed.h5", "w") as file:
        file["lightness"], file["targets"] = lightness, targets
    store.write(folder / "unprocessed.h5", rgb)
    sizes = (
        sum(path.stat().st_size for path in files) / len(files),
        (folder / "processed.h5").stat().st_size / len(lightness),
        (folder / "unprocessed.h5").stat().st_size / len(rgb),
    )
    return files, [round(size) for size in sizes]


def compare(rgb, crop, batch, seconds):
    """Measure all rows; return (name, bytes per image, images/s, CPU s per 1000 images), ratio."""
    starts = range(0, JOBS * batch, batch)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files, (file_bytes, processed_bytes, store_bytes) = prepare(folder, rgb, crop)
        by_file = [partial(batch_of_files, files[s : s + batch], crop, s) for s in starts]
        processed, unprocessed = folder / "processed.h5", folder / "unprocessed.h5"
        parts = [slice(s, s + batch) for s in range(0, PROCESSED, batch)]
        by_processed = [partial(batch_of_processed, processed, part) for part in parts]
        orders = [rng_for(s).choice(len(rgb), batch, replace=False) for s in starts]
        by_store = [partial(batch_of_unprocessed, unprocessed, o, crop, 0) for o in orders]
        rows = [("1 a file per image", file_bytes, *measure(by_file, seconds))]
        rows.append(("2 HDF5, processed", processed_bytes, *measure(by_processed, seconds)))
        for workers in (1, 2, 4):
            result = measure(by_store, seconds, workers)
            rows.append((f"3 HDF5, unprocessed, {workers} workers", store_bytes, *result))
        opened, cores = store.Store(unprocessed), os.cpu_count()
        batches = generator.ColorBatches(opened, batch, crop, workers=cores)
        ours, floor, ratio = measure_turns(batches, rgb, seconds)
    rows.append(("4 ours", store_bytes, *ours))
    rows.append(("5 color conversion alone", 0, *floor))
    return rows, float(ratio)


def print_table(settings, data, rows, ratio):
    """Print one comparison and the ratios it is about."""
    size, crop = settings.image_size, settings.crop
    print(
        f"\n{size}x{size} images, {crop}x{crop} crops, batches of {settings.batch_size}; {data}:\n"
    )
    print(f"| {'way':32} | bytes/image | images/s | CPU s/1000 images |")
    print(f"|{'-' * 34}|------------:|---------:|------------------:|")
    for name, stored, rate, cpu in rows:
        print(f"| {name:32} | {stored:11,} | {rate:8,.0f} | {cpu:17.2f} |")
    report = max(rate for name, _, rate, _ in rows if name.startswith("3"))
    print(f"\nours is {rows[-2][2] / report:.0f} times the best of row 3, and takes ", end="")
    print(f"{ratio:.2f} times as long as the color conversion alone")


def pick_images(size, count, path):
    """Return the images to measure with, and words for where they come from."""
    if size == 64 and path.is_file():
        opened = store.Store(path)
        words = f"the first {count:,} of {len(opened):,} images of {path.name}"
        return opened.read(np.arange(count)), words
    return samples.patches(count, size), "patches of the sample photographs"


def machine():
    """Say in words what this runs on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.name == "posix" else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor()
    return f"{os.cpu_count()} cores, {model}; OpenCV {cv2.__version__}, NumPy {np.__version__}"


def main():
    """Parse the arguments, measure, print."""
    parser = harness.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=4, help="for each row (default: 4)")
    default = config.DATA / "train.h5"
    parser.add_argument("--store", type=Path, default=default, help="of images of 64 pixels")
    arguments = parser.parse_args()
    results = {"machine": machine(), "comparisons": []}
    for settings, count in SETTINGS:
        size, crop, batch = settings.image_size, settings.crop, settings.batch_size
        rgb, data = pick_images(size, count, arguments.store)
        rows, ratio = compare(rgb, crop, batch, arguments.seconds)
        print_table(settings, data, rows, ratio)
        named = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        found = {"size": size, "crop": crop, "batch": batch, "data": data}
        results["comparisons"].append({**found, "rows": named, "times_the_conversion": ratio})
    harness.write(arguments.json, results)


if __name__ == "__main__":
    main()
