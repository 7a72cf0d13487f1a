"""Charts as images."""

import io
import re
import unicodedata
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from pydantic import FiniteFloat

from tools.core.context import Context
from tools.core.function import function

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_POINTS = 60
MAX_VALUE = 1e15
WIDTH, HEIGHT, DPI = 8.0, 4.5, 200  # inches and dots per inch: 1600 × 900 pixels

_INK, _SOFT, _GRID, _PAPER = "#1f2933", "#66727f", "#e6eaee", "#ffffff"
_LONG_LABEL = 12

# From the weakest to the strongest tone, except "colourful", whose colours stand side by side.
_PALETTES: dict[str, list[str]] = {
    "calm": ["#a9c9d8", "#6fa3bf", "#3f7d9f", "#2b5f80", "#1d4661"],
    "colourful": ["#4c6ef5", "#f76707", "#12b886", "#e64980", "#fab005", "#7950f2", "#15aabf", "#fa5252", "#82c91e"],
    "warm": ["#fbc78d", "#f79a59", "#ec6d3f", "#cf4432", "#9d2b2b"],
    "cool": ["#9be0d6", "#57bfc4", "#3393b8", "#3369a6", "#37478a"],
    "grey": ["#c9ced4", "#a3abb3", "#7d868f", "#59626b", "#383f46"],
}

# Drawing is work for the processor alone, so nothing is lost by doing one chart at a time; matplotlib shares font
# caches between figures, so something is gained.
_lock = Lock()


@function(effect="read")
def draw_chart(
    kind: Literal["bar", "line", "pie"],
    title: str,
    labels: list[str],
    values: list[FiniteFloat],
    context: Context,
    palette: Literal["calm", "colourful", "warm", "cool", "grey"] = "calm",
    x_label: str = "",
    y_label: str = "",
) -> dict[str, Any]:
    """Draw a chart and show it to the person as an image. To change one, call this again with everything it needs.

    Args:
        kind: "bar" to compare, "line" for a course over time, "pie" for parts of a whole.
        title: What the chart shows, in a few words.
        labels: One label for each value, in the order in which they are drawn; 60 at most.
        values: The numbers, as many as there are labels. A pie takes no negative ones.
        palette: The colours. "colourful" gives every bar or slice a colour of its own.
        x_label: What the labels are, written below a bar or line chart.
        y_label: What the values are, with their unit, written beside a bar or line chart.

    Returns:
        The name of the image file. The person sees the image itself.
    """
    _check(kind, labels, values)
    with _lock:
        image = _draw(kind, title, labels, values, _PALETTES[palette], x_label, y_label)
    file = context.save(_file_name(title, kind), image, "image/png", description=f"{kind.capitalize()} chart: {title}")
    return {"file": file.name, "kind": kind, "points": len(values), "palette": palette}


def _check(kind: str, labels: list[str], values: list[float]) -> None:
    if len(labels) != len(values):
        raise ValueError(f"There are {len(labels)} labels and {len(values)} values. Give as many labels as values.")
    if not values:
        raise ValueError("There is nothing to draw. Give at least one label and one value.")
    if len(values) > MAX_POINTS:
        raise ValueError(f"{len(values)} points are more than {MAX_POINTS}. Draw the largest ones, or group them.")
    if max(map(abs, values)) > MAX_VALUE:
        raise ValueError("Values above 1e15 cannot be drawn. Use a larger unit, such as millions.")
    if kind == "pie" and (min(values) < 0 or sum(values) == 0):
        raise ValueError(
            "A pie shows parts of a whole: no value may be negative and one must be above zero. Use a bar."
        )


def _draw(
    kind: str, title: str, labels: list[str], values: list[float], colours: list[str], x_label: str, y_label: str
) -> bytes:
    # matplotlib takes most of a second to import, so only those wait who draw. No pyplot: its figures are global.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.25, h_pad=0.2)
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor=_PAPER, layout=layout)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    labels = [_drawable(label, 28) for label in labels]
    if kind == "pie":
        _pie(axes, labels, values, colours)
    else:
        if kind == "bar":
            _bars(axes, labels, values, colours, x_label, y_label)
        else:
            _line(axes, labels, values, colours, x_label, y_label)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelsize=10, labelcolor=_SOFT)
        for text in axes.get_xticklabels() + axes.get_yticklabels():
            text.set_fontfamily(_fonts())
    heading = {"x": 0.03, "ha": "left", "fontsize": 16, "fontweight": "bold", "color": _INK, "fontfamily": _fonts()}
    figure.suptitle(_drawable(title, 75), **heading)
    out = io.BytesIO()
    figure.savefig(out, format="png", facecolor=_PAPER)
    return out.getvalue()


def _bars(axes: "Axes", labels: list[str], values: list[float], colours: list[str], x_label: str, y_label: str) -> None:
    # Long labels are read more easily beside their bars than turned round below them.
    lying = max(map(len, labels)) > _LONG_LABEL and len(labels) <= 24
    shades = _shades(values, colours)
    places = range(len(values))
    if lying:
        bars = axes.barh(places, values, color=shades, height=0.72, zorder=2)
        axes.set_yticks(places, labels)
        axes.invert_yaxis()
        _axis_labels(axes, y_label, x_label)
    else:
        bars = axes.bar(places, values, color=shades, width=0.72, zorder=2)
        _label_points(axes, labels)
        _axis_labels(axes, x_label, y_label)
    axes.grid(axis="x" if lying else "y", color=_GRID, linewidth=1, zorder=0)
    (axes.axvline if lying else axes.axhline)(0, color=_SOFT, linewidth=1, zorder=3)
    _number_axis(axes.xaxis if lying else axes.yaxis)
    if len(values) <= 20:
        axes.bar_label(bars, [_number(value) for value in values], padding=4, fontsize=9.5, color=_INK)
        if lying:
            axes.margins(x=0.12)
        else:
            axes.margins(y=0.12)


def _line(axes: "Axes", labels: list[str], values: list[float], colours: list[str], x_label: str, y_label: str) -> None:
    colour = colours[0] if len(colours) > 5 else colours[2]
    places = range(len(values))
    axes.fill_between(places, values, color=colour, alpha=0.10, linewidth=0, zorder=1)
    axes.plot(places, values, color=colour, linewidth=2.5, solid_capstyle="round", zorder=3)
    dots = [colours[i % len(colours)] for i in places] if len(colours) > 5 else colour
    axes.scatter(places, values, s=46, color=dots, edgecolors=_PAPER, linewidths=1.5, zorder=4)
    axes.grid(axis="y", color=_GRID, linewidth=1, zorder=0)
    axes.axhline(0, color=_SOFT, linewidth=1, zorder=2)
    axes.margins(x=0.03, y=0.12)
    _label_points(axes, labels)
    _axis_labels(axes, x_label, y_label)
    _number_axis(axes.yaxis)


def _pie(axes: "Axes", labels: list[str], values: list[float], colours: list[str]) -> None:
    total = sum(values)
    shades = _shades(values, colours)
    slices, *_ = axes.pie(
        values, colors=shades, startangle=90, counterclock=False, radius=1.0,
        wedgeprops={"width": 0.42, "edgecolor": _PAPER, "linewidth": 2},
    )  # fmt: skip
    axes.text(0, 0, _number(total), ha="center", va="center", fontsize=18, fontweight="bold", color=_INK)
    # A list beside the ring stays readable with any number of slices; labels around it do not.
    shown = sorted(zip(slices, labels, values, strict=True), key=lambda item: -item[2])[:14]
    legend = axes.legend(
        [item[0] for item in shown],
        [f"{label}   {_number(value)}  ({value / total:.1%})" for _, label, value in shown],
        loc="center left", bbox_to_anchor=(1.04, 0.5), frameon=False, labelcolor=_INK, handlelength=1, handleheight=1,
        labelspacing=0.55, title=f"The largest 14 of {len(values)}" if len(values) > 14 else None,
        prop={"family": _fonts(), "size": 10.5},
    )  # fmt: skip
    legend.set_in_layout(True)


def _shades(values: list[float], colours: list[str]) -> list[Any]:
    """A colour for each value: in turn where there are many, otherwise the stronger the larger the value."""
    from matplotlib.colors import LinearSegmentedColormap

    if len(colours) > 5:
        return [colours[i % len(colours)] for i in range(len(values))]
    low, high = min(values), max(values)
    blend = LinearSegmentedColormap.from_list("palette", colours)
    return [blend(0.15 + 0.7 * (value - low) / (high - low)) if high > low else colours[2] for value in values]


def _label_points(axes: "Axes", labels: list[str]) -> None:
    """Write the labels below their points: straight where they fit, turned where they do not."""
    crowded = sum(map(len, labels)) + 2 * len(labels) > 95
    step = 1 if len(labels) <= 30 else 2
    axes.set_xticks(range(0, len(labels), step), labels[::step])
    if crowded:
        for text in axes.get_xticklabels():
            text.set(rotation=45, ha="right", rotation_mode="anchor")


def _axis_labels(axes: "Axes", x_label: str, y_label: str) -> None:
    axes.set_xlabel(_drawable(x_label, 60), fontsize=11, color=_SOFT, labelpad=8, fontfamily=_fonts())
    axes.set_ylabel(_drawable(y_label, 60), fontsize=11, color=_SOFT, labelpad=8, fontfamily=_fonts())


def _number_axis(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))


def _number(value: float) -> str:
    """12345.678 as 12,345.7 and 3.0 as 3; a million and more in short: 2.5M."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:,.6g}".replace("e-0", "e-") if abs(value) < 1000 else f"{value:,.1f}".removesuffix(".0")


@cache
def _fonts() -> list[str]:
    """Fonts to draw with, the first that has a character draws it: matplotlib's own, then what the system has."""
    from matplotlib import font_manager

    there = set(font_manager.get_font_names())
    wanted = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans Arabic", "Noto Sans Hebrew",
              "Noto Sans Devanagari", "Noto Sans Thai")  # fmt: skip
    return [name for name in wanted if name in there]


@cache
def _drawn_characters() -> frozenset[int]:
    from matplotlib import font_manager

    paths = [font_manager.findfont(name) for name in _fonts()]
    return frozenset(code for path in paths for code in font_manager.get_font(path).get_charmap())


def _drawable(text: str, length: int) -> str:
    """`text` on one line, at most `length` characters, without what no font can draw: better nothing than a box."""
    text = "".join(
        c
        for c in unicodedata.normalize("NFC", text)
        if c.isspace() or (ord(c) in _drawn_characters() and c.isprintable())
    )
    text = " ".join(text.split())
    text = text if len(text) <= length else f"{text[: length - 1]}…"
    return text.replace("$", r"\$")  # Between two dollars matplotlib would read mathematics.


def _file_name(title: str, kind: str) -> str:
    ascii_title = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_title).strip("-")[:50].strip("-")
    return f"{slug or kind + '-chart'}.png"
