"""Export a recorded run as an ONNX file, for other programs and languages.

Not here: the graph in it (`colorlib.graph`). The file's metadata
describe how its output is decoded; a short program in the README does it.
"""

import dataclasses
import json

import onnx

from colorlib import files, graph, quantizer, runs, table

OUTPUTS = {
    table.BINS: "logits of the bins, (batch, height / 4, width / 4, bins)",
    2: "a, b of CIE Lab, (batch, height, width, 2)",
}
"""Descriptions of a network's output, by its number of channels."""


def export(run, path, size=None):
    """Write a recorded run's network as an ONNX file.

    Parameters
    ----------
    run : str, path-like or colorlib.runs.Run
        The run, its name in ``data/runs``, or its folder.
    path : path-like
        Written under a temporary name and renamed.
    size : tuple of int, optional
        Height and width of the only input that the file then takes, one image at a time; any
        number of images of any size if None.

    Raises
    ------
    colorlib.runs.RunError
        If there is no such run, or it is damaged.
    ValueError
        If the network can't take images of this size.
    OSError
        If the file can't be written.
    """
    run = run if isinstance(run, runs.Run) else runs.load_run(run)
    multiple = table.input_multiple(run.settings.network)
    if size and any(side <= 0 or side % multiple for side in size):
        raise ValueError(f"the sides have to be multiples of {multiple}: {size[0]}x{size[1]}")
    rows, weights = run.weights()
    model = onnx.load_from_string(graph.build(rows, weights, size))
    model.producer_name = "colorlib"
    onnx.helper.set_model_props(model, metadata(run))
    onnx.checker.check_model(model, full_check=True)
    with files.replacing(path) as temporary:
        onnx.save(model, temporary)


def metadata(run):
    """Collect the metadata that a user of the ONNX file needs.

    Parameters
    ----------
    run : colorlib.runs.Run

    Returns
    -------
    dict of str to str
        ``run``; ``input``, ``output``, in words; and in JSON ``input_multiple``, ``bins``
        (a and b of each of the 313), ``decoding`` (the run's `DecodeConfig`) and ``weights``
        (for its vividness: `quantizer.rebalance`).
    """
    weights = quantizer.rebalancing_weights(run.prior)
    hints = "; hints: a, b and 1 where they are given, else three zeros, (batch, height, width, 3)"
    takes_hints = table.takes_hints(run.settings.network)
    return {
        "run": run.path.resolve().name,
        "input": f"L of CIE Lab (D65) in 0..100, (batch, height, width, 1){hints * takes_hints}",
        "output": OUTPUTS[table.output_channels(table.layers(run.settings.network))],
        "input_multiple": json.dumps(table.input_multiple(run.settings.network)),
        "bins": json.dumps(quantizer.bin_centers().astype(int).tolist()),
        "decoding": json.dumps(dataclasses.asdict(run.decoding)),
        "weights": json.dumps([float(f"{weight:.6g}") for weight in weights]),
    }
