"""Explorers: controls, pictures and numbers that follow them, in JupyterLab and in `make app`.

Both are made anew when a control is released. Where no frontend is (papermill, nbval, HTML), the
pictures and numbers stand alone; `progress.frontend` says which it is. The part in the browser is
explorer.js: values as a reader writes them, names for screen readers, keys kept from the notebook.
"""

import base64
import html
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import anywidget
import traitlets
from IPython.display import Image, display

from milib.study.progress import frontend
from milib.views.blitting import Canvas

HERE = Path(__file__).resolve().parent
STYLE = (HERE / "explorer.css").read_text(encoding="utf-8")


class Control(NamedTuple):
    """What a reader sets: one of some values.

    - title: its name.
    - hint: what it does, in a sentence: its tooltip.
    - values: by their labels, in order.
    - start: the value at first.
    - kind: a slider, a menu, a list, or a number, whose labels count from 0.
    """

    title: str
    hint: str
    values: dict[str, Any]
    start: Any
    kind: Literal["slider", "menu", "list", "number"] = "slider"

    def place(self, value: Any) -> int:
        """The place of a value among all.

        - value: one of them.
        """
        return list(self.values.values()).index(value)

    def told(self) -> dict:
        """What the browser needs of it."""
        shown = {"title": self.title, "hint": self.hint, "kind": self.kind}
        return shown | {"labels": list(self.values), "start": self.place(self.start)}


class Front(anywidget.AnyWidget):
    """The explorer's part in the browser. `chosen` is the place of each control's value."""

    _esm = HERE / "explorer.js"
    _css = STYLE
    controls = traitlets.Dict().tag(sync=True)
    chosen = traitlets.Dict().tag(sync=True)
    pictures = traitlets.List().tag(sync=True)
    numbers = traitlets.Unicode().tag(sync=True)
    clickable = traitlets.Bool().tag(sync=True)
    drawn = traitlets.Int().tag(sync=True)
    """Counts answers: a new one ends the wait for it."""


class Explorer:
    """Controls, and the pictures that follow them.

    - controls: by name.
    - draw: gives canvases and a text of numbers for the controls' values by name.
    - alts: what is seen in each picture, for who does not see it.
    - pick: gives new values by name for a click, from the picture's number and the place in it as
      shares of its width and height; by default a click does nothing.
    """

    def __init__(
        self,
        controls: dict[str, Control],
        draw: Callable[..., tuple[list[Canvas], str]],
        alts: list[str],
        pick: Callable[[int, float, float], dict[str, Any]] | None = None,
    ):
        self.controls, self.draw, self.alts, self.pick = controls, draw, alts, pick
        self.front = Front(
            controls={name: control.told() for name, control in controls.items()},
            chosen={name: control.place(control.start) for name, control in controls.items()},
            clickable=pick is not None,
        )
        self._redraw()
        self.front.observe(self._redraw, "chosen")
        self.front.on_msg(self._clicked)

    @property
    def values(self) -> dict[str, Any]:
        """The controls' values, by name."""
        chosen = self.front.chosen
        return {
            name: list(control.values.values())[chosen[name]]
            for name, control in self.controls.items()
        }

    @property
    def text(self) -> str:
        """The numbers."""
        return self.front.numbers

    @property
    def pngs(self) -> list[bytes]:
        """The pictures."""
        return [bytes(picture["png"]) for picture in self.front.pictures]

    def set(self, **values: Any) -> None:
        """Set controls, as a reader does.

        - values: by name.
        """
        places = {name: self.controls[name].place(value) for name, value in values.items()}
        self.front.chosen = self.front.chosen | places

    def _redraw(self, _change: object = None) -> None:
        """Draw for the values as they are; what was drawn before stays until then."""
        front = self.front
        with front.hold_sync():
            try:
                canvases, text = self.draw(**self.values)
                front.pictures = [
                    {"png": canvas.png(), "alt": alt, "width": canvas.width}
                    for canvas, alt in zip(canvases, self.alts, strict=True)
                ]
                front.numbers = text
            finally:
                front.drawn += 1

    def _clicked(self, _front: Front, content: dict, _buffers: list) -> None:
        before = self.front.drawn
        if self.pick is not None:
            self.set(**self.pick(content["picture"], content["across"], content["down"]))
        if self.front.drawn == before:  # nothing was hit
            self.front.drawn += 1

    def show(self) -> None:
        """In JupyterLab the explorer; elsewhere its pictures and numbers.

        A notebook that is opened again has no kernel for the explorer. It shows the pictures and
        numbers as they were at first: an output of their own, hidden while the explorer lives.
        """
        if frontend():
            display({"text/html": self._still(), "text/plain": self.text}, raw=True)
            view = self.front._repr_mimebundle_()
            bundle = view[0] if isinstance(view, tuple) else view
            display((bundle or {}) | {"text/plain": ""}, raw=True)
            return
        for png, alt in zip(self.pngs, self.alts, strict=True):
            display(Image(png, retina=True, alt=alt))
        print(self.text)

    def _still(self) -> str:
        """Pictures and numbers as HTML that needs no kernel."""
        parts = [f"<style>{STYLE}</style><div class='milib-still'>"]
        for picture in self.front.pictures:
            png, alt = base64.b64encode(picture["png"]).decode(), html.escape(picture["alt"])
            parts.append(
                f'<img src="data:image/png;base64,{png}" width="{picture["width"]}" alt="{alt}">'
            )
        return "\n".join([*parts, f"<pre>{html.escape(self.text)}</pre></div>"])
