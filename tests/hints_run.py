"""A run whose network takes hints, made of the default run; no training is needed."""

import json
import shutil

import numpy as np

from colorlib import config, files, inference, runs, table


def make(folder):
    """Write the run; its network answers hints, though not well.

    Parameters
    ----------
    folder : pathlib.Path
        Where its folder ``hints`` goes.

    Returns
    -------
    pathlib.Path
        Its folder.
    """
    start = runs.load_run(config.DEFAULT_RUN)
    shutil.copytree(start.path, folder / "hints")
    path = folder / "hints"
    recorded = json.loads((path / "config.json").read_text())
    recorded["settings"] |= dict(network="lite0_hints", start_from=config.DEFAULT_RUN)
    (path / "config.json").write_text(json.dumps(recorded))
    rows, (_, weights) = table.layers("lite0_hints"), start.weights()
    rng = np.random.default_rng(0)
    for name, added in {"encoder_stem": 3, "decode_16": 6, "decode_8": 6, "decode_4": 6}.items():
        kernel = weights[name]["kernel"]  # (channels out, channels in, k, k)
        more = rng.normal(0, 3, (len(kernel), added, *kernel.shape[2:]))
        weights[name]["kernel"] = np.concatenate([kernel, more], axis=1)
    with files.replacing(path / runs.WEIGHTS) as temporary:
        temporary.write_bytes(inference.weights_file(rows, weights))
    return path
