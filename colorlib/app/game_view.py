"""The view of the game "real or fake?": two pictures, two buttons and the score.

Not here: pairs, answers and how the score is computed (`colorlib.app.game`). Section 3.1 of the
paper.
"""

import datetime
import html
import time

import cv2
import ipywidgets

from colorlib import config
from colorlib.app import game, widgets

SIDES = ("left", "right")

SCALE = {"paper": game.PAPER, "guessing": game.GUESSING}
"""The rate that a score is compared with."""


class GameView:
    """The game as widgets; a notebook or a page shows it as it is.

    Parameters
    ----------
    folder : path-like, optional
        Folder of the player's own photographs; by default the sample photographs.
    run : str
        The recorded run that colors.
    seed : int, optional
        By default another one each time.
    path : path-like
        Where answers are kept.

    Attributes
    ----------
    view : ipywidgets.Widget
        The root widget.
    score : colorlib.app.game.Score
        The score of this game.
    pair : colorlib.app.game.Pair
        The pair that is shown.

    Raises
    ------
    ValueError
        As `game.new_game` does.
    """

    def __init__(self, folder=None, run=config.DEFAULT_RUN, seed=None, path=game.ANSWERS):
        self.game = game.new_game(folder, run, seed)
        self.run, self.path = run, path
        self.score, self.round = game.Score(), -1
        self.pictures = {side: ipywidgets.Image(format="png") for side in SIDES}
        self.choices = {side: ipywidgets.Button(description="This one is real") for side in SIDES}
        self.captions = {side: ipywidgets.HTML() for side in SIDES}
        self.following = ipywidgets.Button(description="Next pair")
        self.message, self.tally = ipywidgets.HTML(), ipywidgets.HTML()
        self.view = self._arrange()
        for side, button in self.choices.items():
            button.on_click(lambda _, side=side: self.choose(side))
        self.following.on_click(lambda _: self.next())
        self.next()

    def next(self):
        """Show the next pair."""
        self.round += 1
        self.pair = self.game.pair(self.round)
        self._begun, self._open = time.monotonic(), True
        for side in SIDES:
            real = side == self.pair.real_side
            self.pictures[side].value = _png(self.pair.real if real else self.pair.colored)
            self.captions[side].value = _caption("Picture " + ("A" if side == "left" else "B"))
        self.message.value = "Which of the two is the photograph as it was taken?"
        self._enable(True)
        self._count()

    def choose(self, side):
        """Answer that the photograph is on this side. Only the first answer to a pair counts.

        Parameters
        ----------
        side : {"left", "right"}
        """
        if not self._open:
            return
        self._open, fooled = False, side != self.pair.real_side
        self.score = self.score.plus(fooled)
        kept = self._keep(side, fooled)
        for each in SIDES:
            real = each == self.pair.real_side
            self.captions[each].value = _caption(
                "the photograph" if real else "colored", "real" if real else "fake"
            )
        self.message.value = (
            "The network fooled you." if fooled else "You told them apart."
        ) + kept
        self._enable(False)
        self._count()

    def _keep(self, side, fooled):
        answer = {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "game": self.game.seed,
            "round": self.round,
            "photograph": self.pair.name,
            "run": self.run,
            "real": self.pair.real_side,
            "chosen": side,
            "fooled": int(fooled),
            "seconds": round(time.monotonic() - self._begun, 1),
        }
        try:
            game.append_answer(answer, self.path)
        except OSError as error:
            return f" (The answer could not be kept: {html.escape(error.strerror or str(error))}.)"
        return ""

    def _enable(self, choosing):
        for button in self.choices.values():
            button.disabled = not choosing
        self.following.disabled = choosing

    def _count(self):
        everything = game.score_of(self.path, self.run)
        self.tally.value = (
            _row("This game", self.score) + _row("All answers kept here", everything) + _scale()
        )

    def _arrange(self):
        columns = [
            widgets.box("cl-card", self.pictures[side], self.captions[side], self.choices[side])
            for side in SIDES
        ]
        bar = widgets.box("cl-next", self.message, self.following)
        side = widgets.box("cl-score", bar, self.tally)
        return widgets.box("cl-studio", widgets.style(), widgets.box("cl-game", *columns, side))

    def _repr_mimebundle_(self, **options):
        bundle = self.view._repr_mimebundle_(**options)
        return {**bundle, "text/plain": "The game appears here when this cell is run."}


def describe(score):
    """Describe how often a player was fooled.

    Parameters
    ----------
    score : colorlib.app.game.Score

    Returns
    -------
    str
    """
    if not score.trials:
        return "no answers yet"
    low, high = score.interval()
    share = f"{score.fooled / score.trials:.0%}"
    return f"fooled in {score.fooled} of {score.trials}: {share} ({low:.0%} to {high:.0%})"


def _row(title, score):
    bar = '<div class="cl-track">'
    bar += "".join(f'<i class="{name}" style="left:{at:.1%}"></i>' for name, at in SCALE.items())
    if score.trials:
        low, high = score.interval()
        bar += f'<u style="left:{low:.1%};width:{high - low:.1%}"></u>'
        bar += f'<b style="left:{score.fooled / score.trials:.1%}"></b>'
    return (
        f'<div class="cl-row"><div>{title}<small>{describe(score)}</small></div>{bar}</div></div>'
    )


def _scale():
    marks = "".join(
        f'<span style="left:{at:.1%}">{at:.0%}<small>{name}</small></span>'
        for name, at in SCALE.items()
    )
    return (
        f'<div class="cl-scale">{marks}</div>'
        '<p class="cl-note">Dot: how often the colored picture was taken for the photograph. '
        "Line: the 95% interval for what the share would be in the long run.</p>"
    )


def _caption(text, kind=""):
    return f'<div class="cl-which {kind}">{text}</div>'


def _png(rgb):
    return cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()
