"""The studio: color a photograph of one's own, and look at what the network predicts.

Not here: anything that is computed (`colorlib.app.preview`, `colorlib.app.distribution`) and what
ipywidgets lacks (`colorlib.app.widgets`).

The network runs once for a photograph and a model; a slider only decodes its answer anew.
"""

import html

import ipywidgets

from colorlib import colorize, images, runs, samples
from colorlib.app import distribution, preview, widgets

MODELS = ("transfer", "model-64", "model-256", "zhang-2016", "zhang-2017")
"""Recorded runs to choose from, as far as they are there; the first is shown first."""

FIRST = "coffee"
"""The sample photograph that is shown first."""

SLIDERS = {
    "temperature": ("Temperature", 0.0, 1.0, "0: the likeliest color · 1: the mean of all"),
    "vividness": ("Vividness", 0.0, 1.0, "how far rare colors are favored"),
    "saturation": ("Saturation", 0.0, 2.0, "0: grey · 1: as predicted"),
}
"""Fields of `config.DecodeConfig`: title, ends and explanation."""

UPLOADED = "your own"
"""What the list of photographs calls an uploaded one."""


class Studio:
    """Widgets to color photographs with; a notebook or a page shows it as it is.

    Parameters
    ----------
    models : sequence of str
        Recorded runs to choose from.
    first : str
        The sample photograph to begin with.

    Attributes
    ----------
    view : ipywidgets.Widget
        All of it.
    picture : colorlib.app.preview.Picture
        The photograph that is shown.
    answer : colorlib.app.preview.Answer
        What the chosen network says of it, with the sliders' decoding.
    asked : int
        How often a network was run.

    Raises
    ------
    colorlib.runs.RunError
        If none of the models is there.
    """

    def __init__(self, models=MODELS, first=FIRST):
        there = [name for name in models if name in runs.known()]
        if not there:
            raise runs.RunError(f"none of the models is there: {', '.join(models)}")
        self.asked, self._answers, self._colorizers = 0, {}, {}
        self._held, self._own = False, None
        self._make_widgets(there, first)
        self.view = self._arrange()
        self._open(_sample(first))
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
            Whether it could be shown; else the page says why not, and keeps what it showed.
        """
        try:
            picture = preview.from_bytes(name, data)
            self.uploading.say("")
            self._open(picture)
        except images.ImageError as error:
            self.uploading.say(str(error), wrong=True)
        except Exception as error:  # whatever a file does to the libraries, the page goes on
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            self.uploading.say(f"{name}: can't be colored ({reason}); try another", wrong=True)
        else:
            self._list_upload()
            return True
        return False

    def reset(self):
        """Put the sliders where they suit the chosen model."""
        decoding = self._colorizer().decoding
        self._held = True
        for field, slider in self.sliders.items():
            slider.value = getattr(decoding, field)
        self._held = False
        self._decode()

    def save(self):
        """Color the photograph at its full resolution.

        Returns
        -------
        name : str
        data : bytes
        """
        return preview.full_resolution(self.picture, self.answer)

    def _make_widgets(self, models, first):
        self.photograph = ipywidgets.Dropdown(
            options=[(_title(name), name) for name in samples.NAMES], value=first
        )
        self.model = ipywidgets.ToggleButtons(options=[(_title(name), name) for name in models])
        self.uploading = widgets.Upload(
            self.upload,
            preview.check_file,
            suffixes=list(images.READABLE),
            largest=preview.LARGEST_FILE,
        )
        self.divider = widgets.Divider()
        self.sliders = {name: _slider(low, high) for name, (_, low, high, _) in SLIDERS.items()}
        self.resetting = ipywidgets.Button(description="Reset")
        self.status, self.believed = ipywidgets.HTML(), ipywidgets.HTML()
        self.downloading = widgets.Download(self.save, label="Download in full resolution")

    def _arrange(self):
        choices = _box(
            "cl-bar",
            _box("cl-field", _label("Photograph"), self.photograph),
            _box("cl-field", _label("Model"), self.model),
            _box("cl-field wide", _label("Your own"), self.uploading),
        )
        sliders = [
            _box("cl-slider", _label(title, hint), self.sliders[name])
            for name, (title, _, _, hint) in SLIDERS.items()
        ]
        actions = _box("cl-actions", self.resetting, self.downloading)
        title = _label("What the network believes", "of the point that you click on")
        panel = _box(
            "cl-panel",
            _box("cl-group", *sliders, actions),
            _box("cl-group", title, self.believed),
        )
        shown = _box("cl-shown", self.divider, self.status)
        return _box("cl-studio", _css(), choices, _box("cl-main", shown, panel))

    def _observe(self):
        self.photograph.observe(self._told(self._choose), "value")
        self.model.observe(self._told(lambda _: self._ask()), "value")
        for slider in self.sliders.values():
            slider.observe(self._told(lambda _: self._held or self._ask(False)), "value")
        self.resetting.on_click(self._told(lambda _: self._ask()))
        self.divider.observe(self._told(lambda _: self._believe()), "point")

    # Whatever goes wrong is said on the page, which keeps what it showed.
    def _told(self, do):
        def handle(change):
            try:
                do(change)
            except Exception as error:
                self.status.value = html.escape(widgets.reason(error))

        return handle

    def _choose(self, change):
        if self._held:
            return
        if change["new"] != UPLOADED:
            self.uploading.say("")
            self._open(_sample(change["new"]))
        elif self._own:
            self._open(self._own)

    def _list_upload(self):
        self._own = self.picture
        listed = [(_title(name), name) for name in samples.NAMES]
        self._held = True
        self.photograph.options = [(self.picture.name, UPLOADED), *listed]
        self.photograph.value = UPLOADED
        self._held = False

    def _open(self, picture):
        answers = {self.model.value: self._look(picture)}
        height, width = picture.lightness.shape
        self.picture, self._answers = picture, answers
        self.divider.width, self.divider.height = width, height
        self.divider.before = preview.jpeg(picture.grey())
        self.reset()

    # Once for a photograph and a model.
    def _ask(self, reset=True):
        if self.model.value not in self._answers:
            self._answers[self.model.value] = self._look(self.picture)
        self.reset() if reset else self._decode()

    def _look(self, picture):
        said = self.status.value
        self.status.value = f"{_title(self.model.value)} is looking …"
        try:
            answer = preview.ask(self._colorizer(), picture)
        except BaseException:
            self.status.value = said
            raise
        self.asked += 1
        return answer

    def _decode(self):
        changes = {name: slider.value for name, slider in self.sliders.items()}
        self.answer = self._answers[self.model.value].decoded_with(**changes)
        self.divider.after = preview.jpeg(preview.colored(self.picture, self.answer))
        self._describe()
        self._believe()

    def _describe(self):
        height, width = self.picture.photograph.shape
        size = self.answer.decoding.working_size
        seen = " × ".join(str(side) for side in colorize.working_shape(height, width, size)[::-1])
        self.status.value = (
            f"{html.escape(self.picture.name)}, {width} × {height} pixels; "
            f"{_title(self.model.value)} saw {seen}"
        )

    def _believe(self):
        if not colorize.has_bins(self.answer.logits):
            self.believed.value = "This network names one color for each point, no distribution."
            return
        found = distribution.at(self.answer, self.picture, *self.divider.point)
        self.believed.value = distribution.plane(found) + distribution.swatches(found)

    def _colorizer(self):
        name = self.model.value
        if name not in self._colorizers:
            self._colorizers[name] = colorize.colorizer_for(name)
        return self._colorizers[name]

    def _repr_mimebundle_(self, **options):
        bundle = self.view._repr_mimebundle_(**options)
        return {**bundle, "text/plain": "The studio appears here when this cell is run."}


def _sample(name):
    path = samples.path(name)
    return preview.from_file(path, f"{name}{path.suffix}")


def _title(name):
    return name.replace("_", " ").title()


def _slider(low, high):
    return ipywidgets.FloatSlider(min=low, max=high, step=0.01, readout_format=".2f")


def _label(title, hint=""):
    small = f"<small>{hint}</small>" if hint else ""
    return ipywidgets.HTML(f'<div class="cl-label">{title}{small}</div>')


def _css():
    return ipywidgets.HTML(f"<style>{widgets.style()}</style>").add_class("cl-hidden")


def _box(classes, *children):
    box = ipywidgets.Box(children)
    for name in classes.split():
        box.add_class(name if name.startswith("cl-") else f"cl-{name}")
    return box
