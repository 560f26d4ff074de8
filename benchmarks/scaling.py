"""What training on ImageNet costs on 1, 8 and 64 GPUs: computed from recorded measurements.

    python benchmarks/scaling.py [--json FILE.json]

Nothing of this was run on more than one GPU. Images per second and GPU are those of the recorded
trainings on an NVIDIA H200 (JAX, bfloat16), scaled to 176 pixels by the area. What a process can
feed is measured here, in CPU seconds, so that other work on the machine counts little.
"""

import json
import time

import harness
import numpy as np

from colorlib import config, generator, samples

IMAGES = 1_281_167
"""Training images of ImageNet (ILSVRC 2012)."""

SIDE, CROP = 256, 176
"""Sides in pixels of the stored images and of the crops, as of Model-256."""

RUNS = {"transfer": "transfer", "Table 1, full width": "model-64-full-width"}
"""Of each network: the recorded training."""

PARAMETERS = {"transfer": 4.3e6, "Table 1, full width": 24.8e6}
"""Of which each step exchanges the gradients, in float32."""

ROW = "{network:32} {gpus:>5} {images_per_second:>10} {hours:>9} {gigabytes:>9} {cores:>6}"


def rate(run):
    """Return a recorded training's images per second, the median over epochs, for `CROP`."""
    folder = config.RUNS / run
    rows = np.genfromtxt(folder / "history.csv", delimiter=",", names=True)
    crop = json.loads((folder / "config.json").read_text())["settings"]["crop"]
    return float(np.median(rows["images_per_second"])) * (crop / CROP) ** 2


def feeding_cost():
    """Measure the CPU seconds that an image of `TRANSFER`'s kind takes to prepare."""
    settings = config.TRANSFER
    batches = generator.ColorBatches(
        samples.patches(64, SIDE),
        64,
        CROP,
        flip=True,
        workers=0,
        crop_scale=settings.crop_scale,
        degrade=settings.degrade,
    )
    costs = []
    for index in range(5):
        begin = time.process_time()
        batches.batch(index, 0)
        costs.append((time.process_time() - begin) / 64)
    return min(costs)


def main():
    given = harness.parser(__doc__).parse_args()
    cost, rows = feeding_cost(), []
    for network, run in RUNS.items():
        alone = rate(run)
        for gpus in (1, 8, 64):
            total = alone * gpus
            rows.append(
                {
                    "network": network,
                    "gpus": gpus,
                    "images_per_second": total,
                    "hours": 90 * IMAGES / total / 3600,
                    "gigabytes": total * SIDE**2 * 3 / 1e9,
                    "cores": total * cost,
                }
            )
    head = "network", "gpus", "images/s", "hours", "GB/s", "cores"
    print(ROW.format(**dict(zip(rows[0], head, strict=True))))
    for row in rows:
        cells = {name: row[name] for name in ("network", "gpus")}
        cells |= {name: f"{row[name]:,.0f}" for name in ("images_per_second", "cores")}
        cells |= {name: f"{row[name]:.3g}" for name in ("hours", "gigabytes")}
        print(ROW.format(**cells))
    print(f"CPU seconds to prepare 1,000 images: {1000 * cost:.2f}")
    for network, parameters in PARAMETERS.items():
        print(f"gradients of {network}: {4 * parameters / 1e6:.0f} MB")
    harness.write(
        given.json, harness.rounded({**harness.machine(), "cost": cost, "rows": rows}, ".4g")
    )


if __name__ == "__main__":
    main()
