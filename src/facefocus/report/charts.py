"""The charts of the page: Vega-Lite specifications, written with Altair.

Every chart reads the fields that the page's script gives each row: ``label`` (method, layer and
what else tells it apart), ``value``, ``low`` and ``high`` of the score that is selected, ``budget``
in percent, and the configuration's own columns. Colors of text are the page's.
"""

from __future__ import annotations

from typing import Any

import altair as alt

#: Colors of the page, light or dark: SVG takes them from the style sheet.
_INK = "currentColor"

Spec = dict[str, Any]


def _spec(chart: Any, height: Any) -> Spec:
    """The finished specification; as wide as its place, without a background."""
    axis = alt.Axis(
        labelColor=_INK, titleColor=_INK, gridColor=_INK, domainColor=_INK, tickColor=_INK,
        gridOpacity=0.13, domainOpacity=0.4, tickOpacity=0.4, labelLimit=330, titleFontWeight=500,
        labelFontSize=12, titleFontSize=12, titlePadding=12, tickCount=8,
    )  # fmt: skip
    # Parameters of Altair's own are named by a counter: none is used, so equal runs are equal.
    made = chart.properties(
        width="container",
        height=height,
        background="transparent",
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
    )
    config = {"axis": axis.to_dict(), "view": {"stroke": None}, "font": "system-ui, sans-serif"}
    return {**made.to_dict(validate=False), "config": config, "$schema": alt.SCHEMA_URL}


def _rows(name: str = "rows") -> alt.Chart:
    return alt.Chart(alt.NamedData(name))


def _x(field: str, title: str | None = None) -> alt.X:
    return alt.X(field, type="quantitative", title=title, scale=alt.Scale(zero=False))


def _y(field: str, title: str | None = None) -> alt.Y:
    return alt.Y(field, type="nominal", sort=None, title=title)


_COLOR = alt.Color("color", type="nominal", scale=None)
_SHAPE = alt.Shape("shape", type="nominal", scale=None)


def _reference_lines() -> Any:
    """Clean faces, random pixels, the oracle: dashed, each named at its end."""
    line = _rows("lines").encode(x=_x("value"))
    rule = line.mark_rule(strokeDash=[5, 4], color=_INK, opacity=0.7)
    text = line.mark_text(align="left", baseline="top", dx=3, fontSize=11, color=_INK, y=1).encode(
        text="name:N"
    )
    return alt.layer(rule, text)


def intervals(*, control: bool = False, offset: str = "", within: str = "label") -> Spec:
    """Means with intervals, a row for each label.

    Args:
        control: Also the same mask, moved elsewhere: a hollow mark.
        offset: The field that makes the rows instead, each with marks one below the other.
        within: The field that makes these marks.
    """
    rows = _rows().encode(y=_y(offset or "label"), color=_COLOR)
    if offset:
        rows = rows.encode(yOffset=alt.YOffset(within, type="nominal", sort=None))
    layers = [
        _reference_lines(),
        rows.mark_rule(strokeWidth=2).encode(x=_x("low"), x2="high"),
        rows.mark_point(filled=True, size=70, opacity=1).encode(x=_x("value"), shape=_SHAPE),
    ]
    if control:
        hollow = rows.mark_point(filled=False, size=55)
        layers.append(hollow.encode(x=_x("control"), shape=_SHAPE))
    return _spec(alt.layer(*layers), alt.Step(15 if offset else 20))


def curves() -> Spec:
    """A score against the budget, with bands; the ``shaded`` budgets from ``low`` to ``high``."""
    budget = alt.X(
        "budget", type="quantitative", title="Budget (percent of pixels hidden)",
        scale=alt.Scale(type="log", nice=False, padding=14),
    )  # fmt: skip
    shade = (
        _rows("shaded")
        .mark_rect(color=_INK, opacity=0.1)
        .encode(x=alt.X("low", type="quantitative"), x2="high")
    )
    rows = _rows().encode(x=budget, color=_COLOR, detail="label:N")
    value = alt.Y("value", type="quantitative", title=None, scale=alt.Scale(zero=False))
    band = rows.mark_area(opacity=0.13).encode(
        y=alt.Y("low", type="quantitative", title=None, scale=alt.Scale(zero=False)), y2="high"
    )
    line = rows.mark_line(strokeWidth=2).encode(y=value)
    point = rows.mark_point(filled=True, size=60, opacity=1).encode(y=value, shape=_SHAPE)
    return _spec(alt.layer(shade, band, line, point), 330)


def matrix(x: str, y: str, x_title: str, y_title: str) -> Spec:
    """A score by two names: darker hides better; each cell says its figure, turned by ``turn``."""
    top = alt.Axis(orient="top", labelAngle=0)
    cells = _rows().encode(
        x=alt.X(x, type="nominal", sort=None, title=x_title, axis=top), y=_y(y, y_title)
    )
    color = alt.Color(
        "strength", type="quantitative", legend=None, scale=alt.Scale(scheme="blues", zero=False)
    )
    ink = alt.Color("ink", type="nominal", scale=None)
    turn = alt.Angle("turn", type="quantitative", scale=None)
    layers = cells.mark_rect().encode(color=color) + cells.mark_text(fontSize=12).encode(
        text="text:N", color=ink, angle=turn
    )
    return _spec(layers.resolve_scale(color="independent"), alt.Step(38))


def scatter() -> Spec:
    """One mark for each person: clean against hidden; on the line, hiding did nothing."""
    both: Any = {"type": "quantitative", "scale": alt.Scale(domain=[0, 1])}
    rows = _rows().encode(
        x=alt.X("clean", title="Recognition with nothing hidden", **both),
        y=alt.Y("hidden", title="Recognition, hidden", **both),
    )
    marks = rows.mark_point(filled=True, cursor="pointer", opacity=0.55).encode(
        color=_COLOR,
        size=alt.Size("size", type="quantitative", scale=None),
    )
    line = _rows("lines").mark_line(color=_INK, opacity=0.4, strokeDash=[5, 4])
    line = line.encode(x=alt.X("clean", **both), y=alt.Y("hidden", **both))
    return _spec(line + marks, 360)
