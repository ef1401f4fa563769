"""Pictures that follow a slider: drawn in full once, then only what moves."""

import io

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from milib.shapes import Points
from milib.views.looks import LOOK

DOTS = 192
"""Resolution of the pictures, dots per inch: twice that of a page, for sharp screens."""


class Canvas:
    """Axes that are drawn once; at each picture only the moving artists are drawn anew.

    Axes and their labels take ten times as long as what moves in them.

    - width, height: of the picture in inches.
    - layout: names of the axes, as matplotlib's `subplot_mosaic` reads them.
    - margins: as `subplots_adjust` takes them, in its order.
    - options: of `subplot_mosaic`.
    """

    def __init__(
        self, width: float, height: float, layout: str, margins: tuple[float, ...], **options
    ):
        with plt.rc_context(LOOK | {"figure.constrained_layout.use": False}):
            figure = Figure(figsize=(width, height), dpi=DOTS)
            self.axes = figure.subplot_mosaic(layout, **options)
        figure.subplots_adjust(*margins)
        self.agg = FigureCanvasAgg(figure)
        self.moving: list[Artist] = []
        self.still = None

    @property
    def width(self) -> int:
        """Of the picture on a page, in pixels."""
        return round(self.agg.figure.bbox.width) // 2

    def moves(self, *artists: Artist) -> None:
        """Artists that may look different in the next picture."""
        for artist in artists:
            artist.set_animated(True)
        self.moving += artists

    def nearest(self, axis: str, points: Points, across: float, down: float) -> int | None:
        """The number of the point that a click hits, within 16 pixels of a page; else None.

        - axis: name of the axes.
        - points: [n, 2] in its data's units.
        - across, down: where, as shares of the picture's width and height.
        """
        box = self.agg.figure.bbox
        clicked = np.array([across * box.width, (1 - down) * box.height])
        distances = np.hypot(*(self.axes[axis].transData.transform(points) - clicked).T)
        nearest = int(distances.argmin())
        return nearest if distances[nearest] <= 32 else None

    def png(self) -> bytes:
        """The picture as it stands."""
        if self.still is None:
            self.agg.draw()
            self.still = self.agg.copy_from_bbox(self.agg.figure.bbox)
        self.agg.restore_region(self.still)
        for artist in self.moving:
            self.agg.figure.draw_artist(artist)
        content = io.BytesIO()
        pixels = PIL.Image.fromarray(np.asarray(self.agg.buffer_rgba())).convert("RGB")
        pixels.save(content, "png", compress_level=1)
        return content.getvalue()
