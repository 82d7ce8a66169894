"""Numbers and names as text: one way for every table, page, picture and line on a terminal.

Names of people, files, recognizers and methods come from anywhere. Nothing that is shown may hold
what a terminal or a page would take for a command.
"""

from __future__ import annotations

import html
import math
import re

#: What stands where there is no number.
NOTHING = "\N{EN DASH}"

#: Control characters, marks that turn the direction of text, and bytes that were no text.
_UNSEEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]"
)


# --- numbers --------------------------------------------------------------------------------------


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """``0.886``, ``+0.076`` where `signed`, never ``-0.000``; an en dash for nothing."""
    if value is None or not math.isfinite(value):
        return NOTHING
    rounded = round(float(value), digits) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}"


def bounds(low: float | None, high: float | None) -> str:
    """``[0.861, 0.910]``, or nothing where a figure has no interval."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{number(low)}, {number(high)}]"


def with_bounds(
    value: float | None, low: float | None, high: float | None, *, signed: bool = False
) -> str:
    """``0.886 [0.861, 0.910]``, or the figure alone where it has no interval."""
    return f"{number(value, signed=signed)} {bounds(low, high)}".rstrip()


def percent(share: float | None, digits: int = 1) -> str:
    """``31.7 %`` of a share; a share above zero is never shown as zero, none as ``-0 %``."""
    if share is None or not math.isfinite(share):
        return NOTHING
    rounded = round(100 * float(share), digits) + 0.0
    if share > 0 and not rounded:
        return f"<{10.0**-digits:g} %"
    text = f"{rounded:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def budget_text(share: float) -> str:
    """``0.5 %``, ``0.005 %``: a budget as it was asked for, however small."""
    return f"{100 * share:.4g} %"


def p_value(p: float | None) -> str:
    """``0.012``, or ``<0.001``; an en dash for nothing."""
    return "<0.001" if p is not None and p < 0.0005 else number(p)


# --- names ----------------------------------------------------------------------------------------


def visible(text: str, *, lines: bool = False) -> str:
    r"""Text with control characters written out: ``\x1b[31m``.

    Args:
        text: Any text.
        lines: Whether line breaks and tabs are meant.
    """
    kept = "\n\t" if lines else ""
    return _UNSEEN.sub(lambda match: match[0] if match[0] in kept else _written(match[0]), text)


def _written(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def as_markdown(text: str) -> str:
    """A name in Markdown, in a table or outside: no link, no emphasis, no HTML."""
    escaped = re.sub(r"([\\`*|~])", r"\\\1", visible(text)).replace("](", "]\\(")
    return html.escape(escaped, quote=False)


def plain_markdown(line: str) -> str:
    """A line of Markdown of our own with names in it, which must not become links or HTML."""
    return html.escape(visible(line).replace("](", "]\\("), quote=False)


_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
        "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "<": r"\textless{}", ">": r"\textgreater{}", NOTHING: "--",
    }
)  # fmt: skip


def as_tex(text: str) -> str:
    """Text escaped for LaTeX."""
    return visible(text).translate(_TEX)
