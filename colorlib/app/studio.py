"""The studio: widgets to color a photograph and to inspect the network's prediction.

Not here: the computations (`colorlib.app.preview`, `colorlib.app.distribution`) and the widgets
that ipywidgets lacks (`colorlib.app.widgets`).

The network runs once for a photograph, a model and its hints; a slider only decodes its output
again. Hints belong to the photograph: with a model that takes none they are not shown.
"""

import html

import ipywidgets

from colorlib import colorize, hints, images, quantizer, runs, samples
from colorlib.app import distribution, preview, widgets
from colorlib.photos import hint_files

MODELS = (
    "transfer",
    "hints",
    "model-64",
    "model-256",
    "model-256-degraded",
    "zhang-2016",
    "zhang-2017",
)
"""Recorded runs to choose from; those that do not exist are left out."""

FIRST = "coffee"
"""The sample photograph that is shown first."""

SLIDERS = {
    "temperature": ("Temperature", 0.0, 1.0, "0: the likeliest color · 1: the mean of all"),
    "vividness": ("Vividness", 0.0, 1.0, "how much rare colors are favored"),
    "saturation": ("Saturation", 0.0, 2.0, "0: grey · 1: as predicted"),
}
"""Fields of `config.DecodeConfig`: title, range and explanation."""

UPLOADED = "your own"
"""The value of an uploaded photograph in the list of photographs."""


class Studio:
    """The studio's widgets; a notebook or a page displays it.

    Parameters
    ----------
    models : sequence of str
        Recorded runs to choose from.

    Attributes
    ----------
    view : ipywidgets.Widget
        The root widget.
    picture : colorlib.app.preview.Picture
        The photograph that is shown.
    prediction : colorlib.app.preview.Prediction
        The chosen network's output, with the sliders' decoding.
    asked : int
        Number of forward passes so far.

    Raises
    ------
    colorlib.runs.RunError
        If none of the models exists.
    """

    def __init__(self, models=MODELS):
        there = [name for name in models if name in runs.known()]
        if not there:
            raise runs.RunError(f"none of the models exists: {', '.join(models)}; train one")
        self.asked, self._predictions, self._colorizers = 0, {}, {}
        self._is_held, self._own, self._earlier = False, None, []
        self._make_widgets(there)
        self.view = self._arrange()
        self._open(_sample(FIRST))
        self._observe()

    def upload(self, name, data):
        """Show an uploaded photograph.

        Parameters
        ----------
        name : str
        data : bytes

        Returns
        -------
        bool
            Whether it could be shown; otherwise the page shows the reason and stays as it was.
        """
        try:
            picture = preview.from_bytes(name, data)
            self.uploading.say("")
            self._open(picture)
        except images.ImageError as error:
            self.uploading.say(str(error), wrong=True)
        except Exception as error:  # the page has to survive every error of the libraries
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            self.uploading.say(f"{name}: can't be colored ({reason}); try another", wrong=True)
        else:
            self._list_upload()
            return True
        return False

    def reset(self):
        """Set the sliders to the chosen model's own decoding."""
        decoding = self._colorizer().decoding
        self._is_held = True
        for field, slider in self.sliders.items():
            slider.value = getattr(decoding, field)
        self._is_held = False
        self._decode()
        for field in ("temperature", "vividness"):
            self.sliders[field].disabled = not colorize.has_bins(self.prediction.logits)
        self._suggest()

    def save(self):
        """Color the photograph at its full resolution.

        Returns
        -------
        name : str
        data : bytes
        """
        return preview.full_resolution(self.picture, self.prediction)

    @property
    def marks(self):
        """The hints: a list of `colorlib.photos.hint_files.Mark`."""
        return [hint_files.Mark(*mark) for mark in self.divider.marks]

    def hint(self, color):
        """Give the chosen point a color: a new hint, or another color for the one there.

        Parameters
        ----------
        color : str
            As ``#rrggbb``.
        """
        self.divider.marks = [*self._others(), [*self.divider.point, color]]

    def remove(self):
        """Remove the hint at the chosen point."""
        self.divider.marks = self._others()

    def undo(self):
        """Take back the last change of the hints."""
        if self._earlier:
            before = self._earlier[-1]
            self.divider.marks = before
            del self._earlier[-2:]  # this change is no step of its own
            self._show_hinting()

    def load(self, name, data):
        """Take the hints of a file instead of those there are.

        Parameters
        ----------
        name : str
        data : bytes
            As `hint_files.parse` reads it.

        Raises
        ------
        colorlib.images.ImageError
            If it does not suit the photograph.
        """
        text = hint_files.decode(data, name)
        marks = hint_files.parse(text, name, *self.picture.photograph.shape)
        self.divider.marks = [list(mark) for mark in marks]
        self.loading.say("")

    def saved_hints(self):
        """Write the hints as a file that the command and `load` read.

        Returns
        -------
        name : str
        data : bytes
        """
        text = hint_files.formatted(self.marks, *self.picture.photograph.shape)
        return f"{self.picture.name.rpartition('.')[0]}-hints.csv", text.encode()

    def _make_widgets(self, models):
        self.photograph = ipywidgets.Dropdown(
            options=[(_title(name), name) for name in samples.NAMES], value=FIRST
        )
        self.model = ipywidgets.ToggleButtons(options=[(_title(name), name) for name in models])
        self.uploading = widgets.Upload(
            self.upload,
            preview.check_file,
            suffixes=list(images.READABLE),
            largest=preview.LARGEST_FILE,
            wanted=preview.WANTED,
        )
        self.divider = widgets.Divider()
        self.sliders = {name: _slider(low, high) for name, (_, low, high, _) in SLIDERS.items()}
        self.resetting = ipywidgets.Button(description="Reset")
        self.status, self.chart = ipywidgets.HTML(), ipywidgets.HTML()
        self.downloading = widgets.Download(
            self.save, label="Download in full resolution", working="Coloring every pixel …"
        )
        self.palette = widgets.Palette(self._reporting(self.hint))
        self.removing, self.undoing, self.clearing = (
            ipywidgets.Button(description=name) for name in ("Remove", "Undo", "Clear")
        )
        self.loading = widgets.Upload(
            self.load,
            hint_files.check_size,
            suffixes=[hint_files.ENDING],
            largest=hint_files.LARGEST,
            label="Load hints",
            wanted="no table of hints by its name; choose a CSV file",
        )
        self.saving = widgets.Download(self.saved_hints, label="Save hints")

    def _arrange(self):
        choices = widgets.box(
            "cl-bar",
            widgets.box("cl-field", _label("Photograph"), self.photograph),
            widgets.box("cl-field", _label("Model"), self.model),
            widgets.box("cl-field cl-wide", _label("Your own"), self.uploading),
        )
        sliders = [
            widgets.box("cl-slider", _label(title, hint), self.sliders[name])
            for name, (title, _, _, hint) in SLIDERS.items()
        ]
        actions = widgets.box("cl-actions", self.resetting, self.downloading)
        self.hinting = widgets.box(
            "cl-group",
            _label("Hints", "click on the picture, then choose its color there"),
            self.palette,
            widgets.box("cl-buttons", self.removing, self.undoing, self.clearing),
            widgets.box("cl-buttons cl-two", self.loading, self.saving),
        )
        title = _label("Predicted distribution", "at the point that you click on")
        panel = widgets.box(
            "cl-panel",
            widgets.box("cl-group", *sliders, actions),
            self.hinting,
            widgets.box("cl-group", title, self.chart),
        )
        main = widgets.box("cl-main", widgets.box("cl-shown", self.divider, self.status), panel)
        return widgets.box("cl-studio", widgets.style(), choices, main)

    def _observe(self):
        self.photograph.observe(self._reporting(self._choose), "value")
        self.model.observe(self._reporting(lambda _: self._update()), "value")
        for slider in self.sliders.values():
            slider.observe(self._reporting(lambda _: self._is_held or self._update(False)), "value")
        self.resetting.on_click(self._reporting(lambda _: self._update()))
        self.divider.observe(self._reporting(lambda _: self._show_distribution()), "point")
        self.divider.observe(self._reporting(lambda _: self._suggest()), "point")
        self.divider.observe(self._reporting(self._change_hints), "marks")
        self.removing.on_click(self._reporting(lambda _: self.remove()))
        self.undoing.on_click(self._reporting(lambda _: self.undo()))
        self.clearing.on_click(self._reporting(lambda _: setattr(self.divider, "marks", [])))

    # Shows every error on the page, which stays as it was.
    def _reporting(self, do):
        def handle(change):
            try:
                do(change)
            except Exception as error:
                self.status.value = html.escape(widgets.reason(error))

        return handle

    def _choose(self, change):
        if self._is_held:
            return
        if change["new"] != UPLOADED:
            self.uploading.say("")
            self._open(_sample(change["new"]))
        elif self._own:
            self._open(self._own)

    def _list_upload(self):
        self._own = self.picture
        listed = [(_title(name), name) for name in samples.NAMES]
        self._is_held = True
        self.photograph.options = [(self.picture.name, UPLOADED), *listed]
        self.photograph.value = UPLOADED
        self._is_held = False

    def _open(self, picture):
        predictions = {self.model.value: self._look(picture, [])}
        height, width = picture.lightness.shape
        self.picture, self._predictions, self._earlier = picture, predictions, []
        self._is_held, self.divider.marks, self._is_held = True, [], False
        self.divider.width, self.divider.height = width, height
        self.divider.before = preview.jpeg(picture.grey())
        self.reset()

    # Once for a photograph and a model.
    def _update(self, reset=True):
        if self.model.value not in self._predictions:
            self._predictions[self.model.value] = self._look(self.picture, self.marks)
        self.reset() if reset else self._decode()

    def _change_hints(self, change):
        if self._is_held:
            return
        self._earlier.append(change["old"])
        takes = {name for name in self._predictions if self._takes_hints(name)}
        self._predictions = {
            name: self._predictions[name] for name in self._predictions.keys() - takes
        }
        self._update(reset=False)

    # The hints at other points than the chosen one.
    def _others(self):
        return [mark for mark in self.divider.marks if mark[:2] != self.divider.point]

    # Modes of the distribution that the network predicts without a hint at this point.
    def _suggest(self):
        if not self._takes_hints(self.model.value) or not colorize.has_bins(self.prediction.logits):
            self.palette.colors = []
            return
        prediction, others = self.prediction, self._others()
        if len(others) < len(self.divider.marks):
            marks = [hint_files.Mark(*mark) for mark in others]
            prediction = preview.predict(self._colorizer(), self.picture, _points(marks))
        found = distribution.at(prediction, self.picture, *self.divider.point)
        ab = hints.suggestions(found.probabilities, quantizer.bin_centers())
        self.palette.colors = distribution.css_colors(ab, found.lightness)

    def _look(self, picture, marks):
        said = self.status.value
        self.status.value = f"{_title(self.model.value)} is looking …"
        points = _points(marks) if self._takes_hints(self.model.value) else None
        try:
            prediction = preview.predict(self._colorizer(), picture, points)
        except BaseException:
            self.status.value = said
            raise
        self.asked += 1
        return prediction

    def _decode(self):
        changes = {name: slider.value for name, slider in self.sliders.items()}
        self.prediction = self._predictions[self.model.value].decoded_with(**changes)
        self.divider.after = preview.jpeg(preview.colored(self.picture, self.prediction))
        self._describe()
        self._show_distribution()
        self._show_hinting()

    def _show_hinting(self):
        takes = self._takes_hints(self.model.value)
        self.divider.marked = takes
        self.hinting.layout.display = "" if takes else "none"
        self.removing.disabled = len(self._others()) == len(self.divider.marks)
        self.undoing.disabled = not self._earlier
        self.clearing.disabled = self.saving.disabled = not self.divider.marks

    def _describe(self):
        height, width = self.picture.photograph.shape
        size = self.prediction.decoding.working_size
        seen = " × ".join(str(side) for side in colorize.working_shape(height, width, size)[::-1])
        self.status.value = (
            f"{html.escape(self.picture.name)}, {width} × {height} pixels; "
            f"{_title(self.model.value)} saw {seen}{_others(self.picture.photograph.pages)}"
        )

    def _show_distribution(self):
        if not colorize.has_bins(self.prediction.logits):
            self.chart.value = "This network predicts one color a point, no distribution."
            return
        found = distribution.at(self.prediction, self.picture, *self.divider.point)
        self.chart.value = distribution.plane(found) + distribution.swatches(found)

    def _takes_hints(self, name):
        return self._colorizer(name).network.takes_hints

    def _colorizer(self, name=None):
        name = name or self.model.value
        if name not in self._colorizers:
            self._colorizers[name] = colorize.colorizer_for(name)
        return self._colorizers[name]

    def _repr_mimebundle_(self, **options):
        bundle = self.view._repr_mimebundle_(**options)
        return {**bundle, "text/plain": "The studio appears here when this cell is run."}


def _points(marks):
    return hint_files.points(marks) if marks else None


def _sample(name):
    path = samples.path(name)
    return preview.from_file(path, f"{name}{path.suffix}")


def _others(pages):
    if pages == 1:
        return ""
    remedy = "the command <code>colorlib colorize</code> colors all"
    return f"<br>Shown and downloaded is the first of {pages} pages or frames; {remedy}."


def _title(name):
    return name.replace("_", " ").title()


def _slider(low, high):
    return ipywidgets.FloatSlider(min=low, max=high, step=0.01, readout_format=".2f")


def _label(title, hint=""):
    small = f"<small>{hint}</small>" if hint else ""
    return ipywidgets.HTML(f'<div class="cl-label">{title}{small}</div>')
