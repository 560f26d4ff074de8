"""Many images as a run colors them, to look at: grey, colored, true.

    python benchmarks/contact_sheet.py RUN --images STORE_OR_FOLDER [--count 40] [--seed 0]

The images are chosen by the seed alone, so that nobody picks the good ones. The sheet goes into
figures/local/, which git ignores: the images of most data sets may not be published.
"""

from pathlib import Path

import harness
import numpy as np
from tqdm.auto import tqdm

from colorlib import colorize, colorspace, evaluate, figures, generator


def color_all(colorizer, photographs):
    """Return grey, colored and true: uint8, shape (n, 3, side, side, 3)."""
    return np.stack(
        [
            (figures.grey(colorspace.rgb_to_lab(rgb)[..., 0]), colorizer(rgb), rgb)
            for rgb in tqdm(photographs, unit=" images")
        ]
    )


def main():
    """Parse the arguments, color, draw."""
    parser = harness.parser(__doc__, to_json=False)
    parser.add_argument("run", help="a recorded run: its name, or its folder")
    parser.add_argument("--images", required=True, help="a folder of image files, or a store")
    parser.add_argument(
        "--size", type=int, default=256, help="side to which a folder's are brought"
    )
    parser.add_argument("--count", type=int, default=40, help="images to show (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="decides which (default: 0)")
    parser.add_argument("--across", type=int, default=4, help="images in a row (default: 4)")
    parser.add_argument("--working-size", type=int, help="what the network sees")
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--vividness", type=float)
    arguments = parser.parse_args()
    colorizer = colorize.colorizer_for(
        arguments.run,
        working_size=arguments.working_size,
        temperature=arguments.temperature,
        vividness=arguments.vividness,
    )
    with evaluate.open_images(arguments.images, arguments.size) as opened:
        count = min(arguments.count, len(opened))
        drawn = np.random.default_rng(arguments.seed).choice(len(opened), count, replace=False)
        sets = color_all(colorizer, generator.read_images(opened, np.sort(drawn)))
    figure = figures.contact_sheet(sets, ("grey", "colored", "true"), arguments.across)
    name = f"contact_sheet_{Path(arguments.run).name}_{Path(arguments.images).stem}"
    print(figures.save(figure, f"local/{name}"))


if __name__ == "__main__":
    main()
