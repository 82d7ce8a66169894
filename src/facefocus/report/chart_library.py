"""The JavaScript of the page's charts: Vega from the package ``vl-convert-python``.

It is bundled on this machine once for each version and kept in the user's cache: nothing foreign
is in the package, and nothing is downloaded.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from facefocus.core.files import write_atomically
from facefocus.core.locations import cache_dir

#: What the page's script calls.
_SNIPPET = "window.vegaEmbed = vegaEmbed;"


def chart_library() -> Path:
    """The file of the bundle, made where it is not there yet (10 to 40 s)."""
    import vl_convert

    path = cache_dir() / "charts" / f"vega-{version('vl-convert-python')}.js"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        text = vl_convert.javascript_bundle(_SNIPPET)
        write_atomically(path, lambda file: file.write(text.encode()))
    return path
