"""How fast the network can be fed: the report's three ways, ours, and the physical floor.

    python benchmarks/input_pipeline.py [--seconds 4] [--store TRAIN.h5] [--json RESULTS.json]

One table from one run, for 64x64 images with 56x56 crops and for 256x256 with 176x176. The images
are patches of the sample photographs, or those of a store (for 56). Chapter 3 of the report.

The rows:

1. a file per image, read and encoded as the report did: a ball tree fitted for each image, dense
   targets over 313 bins;
2. one HDF5 file of processed data: lightness and dense targets;
3. one HDF5 file of unprocessed images, encoded as in 1, by 1, 2 or 4 worker processes;
4. ours: `colorlib.store` and `colorlib.generator`;
5. the floor: nothing but OpenCV's color conversion of the same crops, on as many threads.
"""

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import h5py
import numpy as np
from sklearn.neighbors import BallTree

from colorlib import colorspace, generator, images, quantizer, samples, store

COLUMNS = ("way", "bytes_per_image", "images_per_second", "cpu_seconds_per_1000")
BATCH = 64
SETTINGS = ((64, 56, 1024), (256, 176, 256))  # image size, crop, images


def encode_like_the_report(rgb):
    """Encode one crop: float Lab, a ball tree fitted anew, dense targets."""
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


def batch_of_processed(path, start, _seed):
    """Row 2."""
    with h5py.File(path) as file:
        return file["lightness"][start : start + BATCH], file["targets"][start : start + BATCH]


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


def measure_ours(opened, crop, seconds):
    """Row 4: go through epochs of `ColorBatches`."""
    batches = generator.ColorBatches(opened, BATCH, crop, flip=True, workers=os.cpu_count())
    jobs = [partial(batches.__getitem__, k) for k in range(len(batches))]
    list(map(call, jobs))
    return measure(jobs, seconds)


def call(job):
    return job()


def measure_floor(rgb, crop, seconds):
    """Row 5: the color conversion alone, a batch at a time on each core."""
    crops = np.ascontiguousarray(rgb[:, :crop, :crop]).reshape(-1, BATCH * crop, crop, 3)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        count, wall, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < seconds:
            list(pool.map(colorspace.rgb_to_lab8, crops))
            count += len(crops) * BATCH
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    cv2.setNumThreads(threads)
    return count / wall, 1000 * cpu / count


def prepare(folder, rgb, crop):
    """Write the images in each of the forms; return paths and bytes on disk."""
    files = [folder / f"{i}.jpg" for i in range(len(rgb))]
    for path, image in zip(files, rgb, strict=True):
        images.write(path, image)
    lightness, targets = crop_and_encode(rgb[: 4 * BATCH], crop, rng_for(0))
    with h5py.File(folder / "processed.h5", "w") as file:
        file["lightness"], file["targets"] = lightness, targets
    store.write(folder / "unprocessed.h5", rgb)
    sizes = (
        sum(path.stat().st_size for path in files) / len(files),
        (folder / "processed.h5").stat().st_size / len(lightness),
        (folder / "unprocessed.h5").stat().st_size / len(rgb),
    )
    return files, [round(size) for size in sizes]


def compare(rgb, crop, seconds):
    """Measure all rows; return (name, bytes per image, images/s, CPU s per 1000 images)."""
    starts = range(0, len(rgb) - BATCH + 1, BATCH)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files, (file_bytes, processed_bytes, store_bytes) = prepare(folder, rgb, crop)
        by_file = [partial(batch_of_files, files[s : s + BATCH], crop, s) for s in starts]
        processed = folder / "processed.h5"
        by_processed = [partial(batch_of_processed, processed, s * BATCH, 0) for s in range(4)]
        unprocessed = folder / "unprocessed.h5"
        orders = [rng_for(s).choice(len(rgb), BATCH, replace=False) for s in starts]
        by_store = [partial(batch_of_unprocessed, unprocessed, o, crop, 0) for o in orders]
        rows = [("1 a file per image", file_bytes, *measure(by_file, seconds))]
        rows.append(("2 HDF5, processed", processed_bytes, *measure(by_processed, seconds)))
        for workers in (1, 2, 4):
            result = measure(by_store, seconds, workers)
            rows.append((f"3 HDF5, unprocessed, {workers} workers", store_bytes, *result))
        opened = store.Store(unprocessed)
        rows.append(("4 ours", store_bytes, *measure_ours(opened, crop, seconds)))
    rows.append(("5 color conversion alone", 0, *measure_floor(rgb, crop, seconds)))
    return rows


def print_table(size, crop, rows):
    """Print one comparison and the ratios it is about."""
    print(f"\n{size}x{size} images, {crop}x{crop} crops, batches of {BATCH}:\n")
    print(f"| {'way':32} | bytes/image | images/s | CPU s/1000 images |")
    print(f"|{'-' * 34}|------------:|---------:|------------------:|")
    for name, stored, rate, cpu in rows:
        print(f"| {name:32} | {stored:11,} | {rate:8,.0f} | {cpu:17.2f} |")
    ours, floor = rows[-2][2], rows[-1][2]
    report = max(rate for name, _, rate, _ in rows if name.startswith("3"))
    print(f"\nours is {ours / report:.0f} times the best of row 3, and takes ", end="")
    print(f"{floor / ours:.2f} times as long as the color conversion alone")


def main():
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4, help="for each row (default: 4)")
    parser.add_argument("--store", type=Path, help="take the 64x64 images from this store")
    parser.add_argument("--json", type=Path, help="write the numbers into this file as well")
    arguments = parser.parse_args()
    results = []
    for size, crop, count in SETTINGS:
        if arguments.store and size == 64:
            rgb = store.Store(arguments.store).read(np.arange(count))
        else:
            rgb = samples.patches(count, size)
        rows = compare(rgb, crop, arguments.seconds)
        print_table(size, crop, rows)
        named = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        results.append({"size": size, "crop": crop, "rows": named})
    if arguments.json:
        with images.replacing(arguments.json) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
