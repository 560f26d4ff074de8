"""How fast the studio of notebook 10 answers: what a person waits for.

    python benchmarks/studio.py [--repeats 15] [--json RESULTS.json]

A row for each photograph (an enlarged sample photograph, as JPEG) and model, milliseconds:

- upload: the file is decoded, the forward pass runs, the picture and the distribution are drawn;
- slider: one step of it, from the new value to the JPEG and the drawing that go to the browser
  (median and slowest of the repeats);
- hint: the same for another color of a hint, where the model takes hints: the network is asked
  again (median);
- download: the photograph in full resolution, as a file.
"""

import statistics
import time

import cv2
import harness

from colorlib import runs, samples
from colorlib.app import studio

SHAPES = {0.3: (480, 640), 1: (1000, 1000), 12: (3000, 4000)}
"""Megapixels -> height and width."""

COLUMNS = ("megapixels", "model", "upload", "slider", "slowest", "hint", "download")


def photograph(megapixels):
    height, width = SHAPES[megapixels]
    rgb = cv2.resize(samples.load("coffee"), (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()


def milliseconds(action):
    begin = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - begin)


def measure(megapixels, model, repeats):
    data, shown = photograph(megapixels), studio.Studio(models=[model])
    upload = milliseconds(lambda: shown.upload("photograph.jpg", data))
    slider, steps = shown.sliders["temperature"], []
    for step in range(repeats):
        value = 0.1 + 0.02 * step
        steps.append(milliseconds(lambda value=value: setattr(slider, "value", value)))
    hint = _hint(shown, repeats)
    download = milliseconds(shown.save)
    numbers = (upload, statistics.median(steps), max(steps), hint, download)
    rounded = (x and round(x, 1) for x in numbers)
    return dict(zip(COLUMNS, (megapixels, model, *rounded), strict=True))


def _hint(shown, repeats):
    if not shown.divider.marked:
        return None
    colors = [f"#{step % 256:02x}8040" for step in range(0, 10 * repeats, 10)]
    return statistics.median(milliseconds(lambda x=x: shown.hint(x)) for x in colors)


def main():
    parser = harness.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    print("".join(f"{name:>12}" for name in COLUMNS))
    rows = []
    for model in filter(runs.known().__contains__, studio.MODELS):
        for megapixels in SHAPES:
            rows.append(measure(megapixels, model, options.repeats))
            print("".join(f"{value:>12}" for value in map(str, rows[-1].values())), flush=True)
    harness.write(options.json, {**harness.machine(), "unit": "milliseconds", "rows": rows})


if __name__ == "__main__":
    main()
