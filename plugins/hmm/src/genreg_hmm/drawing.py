"""The state graph as a picture: states on a circle, arrows as wide as they are likely, as SVG or PNG.

Both are drawn from one list of shapes. A PNG has the letters of Pillow's own font, so symbols of other scripts are
legible in SVG alone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from html import escape
from typing import Any, Literal, NamedTuple

from genreg_hmm.config import Config
from genreg_hmm.graph import emissions
from genreg_hmm.learning import Parameters

NODE = 30.0  # radius of a state
BEND = 0.18  # how far an arrow bows out, as a share of its length: there and back lie apart
LEAST = 0.01  # probability of an arrow that is drawn
INK, PAPER, SHADE = "#20242c", "#ffffff", "#e8eef8"

Point = tuple[float, float]


class Line(NamedTuple):
    """A path through points, with an arrow's head at its end."""

    points: list[Point]
    width: float


class Disc(NamedTuple):
    """A state."""

    center: Point


class Text(NamedTuple):
    """Words around a point."""

    center: Point
    words: str
    size: int


def drawn(config: Config, parameters: Parameters, kind: Literal["svg", "png"]) -> bytes:
    """The graph of all states, transitions of at least 1 %, starts, and the likeliest emissions."""
    radius = max(110.0, 24.0 * parameters.states)
    side = 2 * (radius + 250.0)
    shapes = list(_shapes(config, parameters, (side / 2, side / 2), radius))
    return _svg(shapes, side) if kind == "svg" else _png(shapes, side)


def _shapes(config: Config, parameters: Parameters, center: Point, radius: float) -> Iterator[Line | Disc | Text]:
    """Transitions with their probabilities, then states, and beside each what it emits."""
    states = parameters.states
    angles = [2 * math.pi * k / states - math.pi / 2 for k in range(states)]
    places = [(center[0] + radius * math.cos(a), center[1] + radius * math.sin(a)) for a in angles]
    for i, here in enumerate(places):
        for j, there in enumerate(places):
            p = float(parameters.transition[i, j])
            if p >= LEAST:
                points = _loop(here, angles[i]) if i == j else _arc(here, there)
                middle = points[len(points) // 2]
                out = angles[i] if i == j else math.atan2(middle[1] - center[1], middle[0] - center[0])
                yield Line(points, 0.8 + 3 * p)
                yield Text((middle[0] + 14 * math.cos(out), middle[1] + 14 * math.sin(out)), f"{p:.2g}", 13)
    for k, (x, y) in enumerate(places):
        yield Disc((x, y))
        yield Text((x, y - 7), str(k), 18)
        yield Text((x, y + 12), f"start {float(parameters.start[k]):.2g}", 11)
        lines = emissions(config, parameters, k, most=3)
        away = NODE + 66 + 80 * abs(math.cos(angles[k]))  # beyond the loop; words are wider than high
        x, y = x + away * math.cos(angles[k]), y + (away + 10 * len(lines)) * math.sin(angles[k])
        for row, words in enumerate(lines):
            yield Text((x, y + 15 * (row - (len(lines) - 1) / 2)), words, 12)


def _arc(here: Point, there: Point) -> list[Point]:
    """From the rim of one state to the rim of another, bowing to the left."""
    (x0, y0), (x1, y1) = here, there
    length = math.dist(here, there)
    bow = ((x0 + x1) / 2 + 2 * BEND * (y1 - y0), (y0 + y1) / 2 - 2 * BEND * (x1 - x0))
    ends = NODE / length
    return [_bezier(here, bow, there, ends + (1 - 2 * ends) * t / 24) for t in range(25)]


def _bezier(a: Point, b: Point, c: Point, t: float) -> Point:
    u = 1 - t
    return (u * u * a[0] + 2 * u * t * b[0] + t * t * c[0], u * u * a[1] + 2 * u * t * b[1] + t * t * c[1])


def _loop(here: Point, angle: float) -> list[Point]:
    """A loop outside the circle of states, from a state to itself."""
    size = 20.0
    x, y = here[0] + (NODE + 0.7 * size) * math.cos(angle), here[1] + (NODE + 0.7 * size) * math.sin(angle)
    turns = [angle + math.pi + 0.75 + (2 * math.pi - 1.5) * t / 24 for t in range(25)]
    return [(x + size * math.cos(turn), y + size * math.sin(turn)) for turn in turns]


def _head(line: Line) -> list[Point]:
    """The three corners of an arrow's head."""
    (x0, y0), (x1, y1) = line.points[-3], line.points[-1]
    angle, long = math.atan2(y1 - y0, x1 - x0), 9 + line.width
    return [(x1, y1), *((x1 - long * math.cos(angle + s), y1 - long * math.sin(angle + s)) for s in (0.4, -0.4))]


def _svg(shapes: list[Any], side: float) -> bytes:
    """The shapes as an SVG of that side."""
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side:.0f} {side:.0f}" '
        f'font-family="sans-serif" text-anchor="middle" dominant-baseline="central">',
        f'<rect width="100%" height="100%" fill="{PAPER}"/>',
    ]
    for shape in shapes:
        if isinstance(shape, Line):
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
            head = " ".join(f"{x:.1f},{y:.1f}" for x, y in _head(shape))
            out.append(f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="{shape.width:.1f}"/>')
            out.append(f'<polygon points="{head}" fill="{INK}"/>')
        elif isinstance(shape, Disc):
            (x, y) = shape.center
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{NODE}" fill="{SHADE}" stroke="{INK}"/>')
        else:
            (x, y) = shape.center
            out.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{shape.size}">{escape(shape.words)}</text>')
    return "\n".join([*out, "</svg>\n"]).encode()


def _png(shapes: list[Any], side: float) -> bytes:
    """The shapes as a PNG of twice that side."""
    from PIL import Image, ImageDraw, ImageFont

    scale = 2  # smooth lines: drawn twice as large
    image = Image.new("RGB", (int(side * scale), int(side * scale)), PAPER)
    pen = ImageDraw.Draw(image)
    for shape in shapes:
        if isinstance(shape, Line):
            pen.line([(x * scale, y * scale) for x, y in shape.points], INK, round(shape.width * scale), joint="curve")
            pen.polygon([(x * scale, y * scale) for x, y in _head(shape)], INK)
        elif isinstance(shape, Disc):
            x, y, r = shape.center[0] * scale, shape.center[1] * scale, NODE * scale
            pen.ellipse((x - r, y - r, x + r, y + r), SHADE, INK, scale)
        else:
            font = ImageFont.load_default(shape.size * scale)
            pen.text((shape.center[0] * scale, shape.center[1] * scale), shape.words, INK, font, anchor="mm")
    held = io.BytesIO()
    image.save(held, "PNG")
    return held.getvalue()
