"""The columns of a results table that name a configuration, and the methods with a part of it."""

from __future__ import annotations

#: The columns of a results table that tell one configuration from another.
CONFIGURATION = (
    "experiment", "faces", "source", "target", "method", "options", "layer", "layer_calls",
    "objective", "evidence", "normalize", "arcface_scale", "max_pairs", "split", "control",
    "budget", "fill", "on_degenerate", "compare", "threshold_rule", "threshold", "seed",
)  # fmt: skip

#: Those of them that tell one map from another.
MAP = (
    "source", "method", "options", "layer", "layer_calls", "objective", "evidence", "normalize",
    "arcface_scale", "max_pairs",
)  # fmt: skip

#: In ``options``, after those of the method: the fill that a map is made for where it is tried
#: under others, too.
MADE_FOR = "made_for="

#: What a configuration and its random-pixel control must have in common: all but the map.
SETTING = tuple(name for name in CONFIGURATION if name not in (*MAP, "control"))

#: The method whose rows are the random-pixel control.
RANDOM = "random"

#: The bound (Protocol: oracle), searched on the photos that it is tried on; and the same search on
#: the photos that the maps come from, tried on held-out ones.
ORACLE, HELDOUT_ORACLE = "oracle", "oracle-heldout"
