"""Result rows of the paper's four stages, of a known effect each, for tests of tables and audit."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import polars as pl

from tests.report.fabricated import PIXELS, row, table

PEOPLE = [f"p{number:02d}" for number in range(8)]
#: The second is one of the paper's, by the zoo's own name; the first nobody knows.
NETS = ("mine", "facenet-vggface2")
CAMS = {"layer-cam": 0.01, "grad-cam": 0.05, "grad-cam++": 0.1}
RISE = {"s-rise": 0.03, "corr-rise": 0.02}
#: What a layer multiplies the drop of its method with.
LAYERS = {"1": 0.5, "2": 0.7, "3": 0.9, "N/4": 0.8, "N/2": 1.2, "3N/4": 1.0, "N-2": 1.4,
          "N-1": 2.0, "N": 1.6, "input": 0.6, "middle": 1.1, "output": 1.5, "all": 1.3}  # fmt: skip
LOSSES = {"cosine": 1.0, "l1": 1.5, "l2": 1.1, "arcface(0)": 1.2, "arcface(0.1)": 1.3,
          "arcface(0.2)": 1.7, "arcface(0.3)": 1.4}  # fmt: skip
FILLS = {"black": 1.0, "white": 1.1, "mean": 0.9, "random": 1.2, "blur": 0.1}
CLEAN = 0.96


def frailty(person: int) -> float:
    """How much more than the mean a person loses: means over all people are 1."""
    return 0.65 + 0.1 * person


def configuration(drop: float, **settings: Any) -> list[dict[str, Any]]:
    """A row for every person; their mean drop is `drop`."""
    budget = settings.get("budget", 0.01)
    rows = []
    for index, name in enumerate(PEOPLE):
        lost = drop * frailty(index)
        rows.append(
            row(
                **{"layer": None, "layer_calls": None, "objective": None, **settings},
                identity=name, clean_rate=CLEAN, rate=CLEAN - lost, clean_cosine=0.6,
                cosine=0.6 - lost, budget_pixels=round(budget * PIXELS),
                masked_pixels=float(round(budget * PIXELS)), masked_share=budget,
            )
        )  # fmt: skip
    return rows


def stages(*, faces: str = "lfw", policy: str = "none") -> pl.DataFrame:
    """All rows of rq1 to rq4; the second recognizer loses half of what the first does."""
    rows: list[dict[str, Any]] = []
    for net, strength in zip(NETS, (1.0, 0.5), strict=True):
        own = {"source": net, "target": net, "faces": faces, "on_degenerate": policy}
        rows += _rq1(own, strength)
        for (method, drop), (layer, more) in itertools.product(CAMS.items(), LAYERS.items()):
            rows += configuration(
                drop * more * strength, experiment="rq2", method=method, layer=layer,
                objective="cosine", **own,
            )  # fmt: skip
        for (method, drop), (loss, more) in itertools.product(CAMS.items(), LOSSES.items()):
            rows += configuration(
                drop * more * strength, experiment="rq3", method=method, layer="N-1",
                objective=loss, **own,
            )  # fmt: skip
    rows += _rq4(faces, policy)
    return table(rows)


def _rq1(own: dict[str, Any], strength: float) -> list[dict[str, Any]]:
    rows = []
    for budget, fill in itertools.product((0.005, 0.01, 0.02, 0.03, 0.05, 0.1), FILLS):
        size = strength * FILLS[fill] * budget / 0.01
        for method, drop in {**CAMS, **RISE}.items():
            layered = {"layer": "N", "objective": "cosine"} if method in CAMS else {}
            rows += configuration(
                drop * size, experiment="rq1", method=method, budget=budget, fill=fill,
                **layered, **own,
            )  # fmt: skip
    return rows


def _rq4(faces: str, policy: str) -> list[dict[str, Any]]:
    """Other recognizers' maps do a third of what own maps do."""
    rows = []
    for source, (target, strength) in itertools.product(NETS, zip(NETS, (1.0, 0.5), strict=True)):
        across = 1.0 if source == target else 1 / 3
        for (method, drop), fill in itertools.product(
            {**CAMS, **RISE}.items(), ("black", "white", "mean", "random")
        ):
            layered = {"layer": "N-1", "objective": "arcface(0.2)"} if method in CAMS else {}
            rows += configuration(
                drop * strength * across * FILLS[fill], experiment="rq4", faces=faces,
                source=source, target=target, method=method, fill=fill, on_degenerate=policy,
                **layered,
            )  # fmt: skip
    return rows


def hidden_people(share: float, draw: np.random.Generator) -> np.ndarray:
    """True for the share of the people, rounded, whose whole face is hidden."""
    count = round(share * len(PEOPLE))
    return np.isin(np.arange(len(PEOPLE)), draw.permutation(len(PEOPLE))[:count])
