"""Show the predicted distribution over the 313 bins at one point, as SVG and HTML.

Not here: the conversion of a distribution to a color (`colorlib.quantizer`; section 2.3 of Zhang et
al. 2016), the widgets around it (`colorlib.app.studio`) and figures (`colorlib.figures`).
"""

import dataclasses

import numpy as np

from colorlib import colorspace, quantizer

LIKELIEST = 5
"""Number of colors in the list."""

PLANE = 300
"""Side of the drawing of the ab plane, in its own units; it scales with the page."""

PLANE_LIGHTNESS = (40, 65)
"""Range of L in which bins are drawn; outside it they look nearly the same."""

RANGE = 118
"""The plane is drawn from minus this to this, in ab units."""


@dataclasses.dataclass(frozen=True)
class PredictedDistribution:
    """The predicted, the chosen and the true color of one point.

    Attributes
    ----------
    probabilities : ndarray of float32, shape (313,)
        The network's prediction, before vividness and temperature.
    lightness : float
        L of the point in the photograph.
    chosen : ndarray, shape (2,)
        The (a, b) after decoding.
    truth : ndarray, shape (2,), or None
        The (a, b) in the photograph, if that is in color.
    """

    probabilities: np.ndarray
    lightness: float
    chosen: np.ndarray
    truth: np.ndarray | None = None

    def likeliest(self):
        """Return the likeliest bins.

        Returns
        -------
        ndarray of int, shape (LIKELIEST,)
            The likeliest first; of two alike the lower index.
        """
        return np.argsort(-self.probabilities, kind="stable")[:LIKELIEST]


def at(prediction, picture, x, y):
    """Return the predicted distribution at a point.

    Parameters
    ----------
    prediction : colorlib.app.preview.Prediction
    picture : colorlib.app.preview.Picture
    x, y : float
        The point, from the left and from the top, in 0..1.

    Returns
    -------
    PredictedDistribution
    """
    logits = _at(prediction.logits, x, y)
    truth = None if picture.truth is None else _at(picture.truth, x, y)
    lightness = float(_at(picture.lightness, x, y))
    return PredictedDistribution(probabilities(logits), lightness, prediction.decode(logits), truth)


def probabilities(logits):
    """Normalize logits.

    Parameters
    ----------
    logits : ndarray of floating point, shape (..., 313)

    Returns
    -------
    ndarray of float32, shape (..., 313)
        Each sums to 1.
    """
    logits = np.asarray(logits, np.float64)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)


# Colors as ``#aabbcc``; what sRGB can't show at this L is shown less colorful.
def _css_colors(ab, lightness):
    ab = np.asarray(ab, np.float32).reshape(-1, 2)
    lab = np.column_stack([np.full(len(ab), lightness, np.float32), ab])
    rgb = colorspace.lab_to_rgb8(lab)
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in rgb]


def sides(distribution):
    """Return the side of each bin's square, relative to the cell.

    Parameters
    ----------
    distribution : PredictedDistribution

    Returns
    -------
    ndarray of float32, shape (313,)
        0..1: the area is proportional to the probability, and the likeliest fills its cell.
    """
    return np.sqrt(distribution.probabilities / distribution.probabilities.max())


def plane(distribution):
    """Draw a predicted distribution on the ab plane.

    Parameters
    ----------
    distribution : PredictedDistribution

    Returns
    -------
    str
        SVG. Each bin has its place, b to the right and a downwards; the likelier, the larger its
        square. A ring is the color that was chosen, a cross the photograph's own.
    """
    centers, cell = quantizer.bin_centers(), _length(quantizer.SPACING)
    colors = _css_colors(centers, np.clip(distribution.lightness, *PLANE_LIGHTNESS))
    marks = [_square(center, cell * 0.92, "#8884", "cell") for center in centers]
    for center, color, side in zip(centers, colors, sides(distribution), strict=True):
        if side > 0.04:
            marks.append(_square(center, cell * side, color, "bin"))
    zero = _place(0)
    axes = (
        f'<path d="M0 {zero}H{PLANE}M{zero} 0V{PLANE}" class="axis"/>'
        f'<text x="{PLANE - 4}" y="{zero - 5}" text-anchor="end">yellow, +b</text>'
        f'<text x="4" y="{zero - 5}">blue, −b</text>'
        f'<text x="{zero + 6}" y="{PLANE - 6}">red, +a</text>'
        f'<text x="{zero + 6}" y="13">green, −a</text>'
    )
    label = "The network's distribution over 313 colors, on the plane of a and b"
    return (
        f'<svg class="cl-plane" viewBox="0 0 {PLANE} {PLANE}" role="img" aria-label="{label}">'
        f"{''.join(marks)}{axes}{_cross(distribution.truth)}{_ring(distribution.chosen)}</svg>"
    )


def swatches(distribution):
    """List the likeliest colors, the chosen one and the photograph's own.

    Parameters
    ----------
    distribution : PredictedDistribution

    Returns
    -------
    str
        HTML.
    """
    bins = distribution.likeliest()
    colors = _css_colors(quantizer.bin_centers()[bins], distribution.lightness)
    likely = [
        _swatch(color, f"{share:.0%}" if share >= 0.01 else "&lt;1%", "")
        for color, share in zip(colors, distribution.probabilities[bins], strict=True)
    ]
    (chosen,) = _css_colors(distribution.chosen, distribution.lightness)
    ends = [_swatch(chosen, "chosen", '<i class="ring"></i>')]
    if distribution.truth is not None:
        (truth,) = _css_colors(distribution.truth, distribution.lightness)
        ends.append(_swatch(truth, "in the photograph", '<i class="cross">×</i>'))
    return (
        f'<div class="cl-caption">The {len(bins)} likeliest</div>'
        f'<div class="cl-swatches">{"".join(likely)}</div>'
        f'<div class="cl-swatches ends">{"".join(ends)}</div>'
    )


# The cell or the pixel that a point lies in.
def _at(array, x, y):
    height, width = array.shape[:2]
    return array[min(int(y * height), height - 1), min(int(x * width), width - 1)]


def _place(value):
    return round((float(value) + RANGE) * PLANE / (2 * RANGE), 1)


def _length(value):
    return value * PLANE / (2 * RANGE)


def _square(center, side, color, kind):
    a, b = center
    x, y = _place(b) - side / 2, _place(a) - side / 2
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}" '
        f'fill="{color}"/>'
    )


def _ring(ab):
    x, y = _place(ab[1]), _place(ab[0])
    circle = f'<circle cx="{x}" cy="{y}" r="7" fill="none" '
    return f'{circle}stroke="#fff" stroke-width="5"/>{circle}stroke="#111" stroke-width="2"/>'


def _cross(ab):
    if ab is None:
        return ""
    x, y = _place(ab[1]), _place(ab[0])
    path = f'<path d="M{x - 5} {y - 5}l10 10m0 -10l-10 10" fill="none" '
    return f'{path}stroke="#fff" stroke-width="5"/>{path}stroke="#111" stroke-width="2"/>'


def _swatch(color, text, mark):
    return f'<span><b style="background:{color}"></b>{mark}{text}</span>'
