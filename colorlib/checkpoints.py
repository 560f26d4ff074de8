"""Everything a training needs to go on <-> one file, written whole or not at all.

Not here: what a finished training leaves to others (`colorlib.runs`).

A checkpoint is a numbered ``.npz`` file: the network's and the optimizer's variables as arrays,
and the rest as JSON. Nothing in it can be executed. The two newest are kept, so that a damaged
one costs no more than the epochs since the one before.
"""

import json
import warnings
import zipfile

import numpy as np

from colorlib import images

PATTERN = "checkpoint-*.npz"
KEPT = 2
STATE = "state"


def capture(network):
    """Copy all variables of a network and its optimizer.

    Parameters
    ----------
    network : keras.Model
        Compiled, its optimizer built.

    Returns
    -------
    dict of str to ndarray
    """
    return {
        f"v{i:04}": np.asarray(variable).copy() for i, variable in enumerate(_variables(network))
    }


def put_back(network, arrays):
    """Give the variables the values that `capture` copied.

    Parameters
    ----------
    network : keras.Model
        Compiled, its optimizer built; like the one that was captured.
    arrays : dict of str to ndarray
    """
    for variable, name in zip(_variables(network), sorted(arrays), strict=True):
        variable.assign(arrays[name])


def save(folder, number, arrays, state):
    """Write a checkpoint and remove all but the newest two.

    Parameters
    ----------
    folder : pathlib.Path
        Made if missing.
    number : int
        Of the epochs that are done.
    arrays : dict of str to ndarray
        From `capture`.
    state : dict
        Anything else, as JSON allows.

    Raises
    ------
    OSError
        If it can't be written; the earlier ones are untouched then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    coded = np.frombuffer(json.dumps(state).encode(), np.uint8)
    path = folder / f"checkpoint-{number:06}.npz"
    with images.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays, **{STATE: coded})
    for old in sorted(folder.glob(PATTERN))[:-KEPT]:
        old.unlink()


def restore(folder, network):
    """Put a network back to the newest checkpoint that is whole.

    Parameters
    ----------
    folder : pathlib.Path
        May be missing.
    network : keras.Model
        Compiled; built like the one that was saved.

    Returns
    -------
    dict or None
        The state that was saved; None if there is no checkpoint.

    Warns
    -----
    UserWarning
        If a damaged checkpoint had to be passed over.
    """
    network.optimizer.build(network.trainable_variables)
    for leftover in folder.glob(".*.partial"):  # of a process killed while it wrote
        leftover.unlink()
    for path in sorted(folder.glob(PATTERN), reverse=True):
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
                arrays = dict(found)
            state = json.loads(arrays.pop(STATE).tobytes())
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            warnings.warn(f"{path} is damaged ({error}); using the one before it", stacklevel=2)
            continue
        put_back(network, arrays)
        return state
    return None


def _variables(network):
    return [*network.variables, *network.optimizer.variables]
