"""Runs made up for tests and for looking at pages: no recognizer, no face."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

SCHEMA: dict[str, Any] = {
    "experiment": pl.String, "faces": pl.String, "source": pl.String, "target": pl.String,
    "method": pl.String, "options": pl.String, "layer": pl.String, "layer_calls": pl.String,
    "objective": pl.String, "evidence": pl.String, "split": pl.String, "budget": pl.Float64,
    "fill": pl.String, "on_degenerate": pl.String, "compare": pl.String,
    "threshold_rule": pl.String, "threshold": pl.Float64, "seed": pl.Int64, "identity": pl.String,
    "images": pl.Int64, "pairs": pl.Int64, "clean_cosine": pl.Float64, "cosine": pl.Float64,
    "clean_rate": pl.Float64, "rate": pl.Float64, "budget_pixels": pl.Int64,
    "masked_pixels": pl.Float64, "masked_share": pl.Float64, "maps": pl.Int64,
    "maps_degenerate": pl.Int64, "degenerate": pl.Boolean, "draws": pl.Int64,
}  # fmt: skip

PIXELS = 112 * 112


def row(**changes: Any) -> dict[str, Any]:
    """One result row, valid as it is; name what a test is about."""
    base: dict[str, Any] = {
        "experiment": "made-up", "faces": "lfw", "source": "net", "target": "net",
        "method": "grad-cam", "options": "", "layer": "N", "layer_calls": "48",
        "objective": "cosine", "evidence": "positive", "split": "same", "budget": 0.01,
        "fill": "black", "on_degenerate": "none", "compare": "clean", "threshold_rule": "eer",
        "threshold": 0.29, "seed": 0, "identity": "Ada", "images": 4, "pairs": 12,
        "clean_cosine": 0.6, "cosine": 0.5, "clean_rate": 1.0, "rate": 0.75, "budget_pixels": 125,
        "masked_pixels": 125.0, "masked_share": 125 / PIXELS, "maps": 12, "maps_degenerate": 0,
        "degenerate": False, "draws": 1,
    }  # fmt: skip
    if changes.get("method") == "random":
        base.update(dict.fromkeys(("source", "layer", "layer_calls", "objective"), None))
        base.update(maps=0, draws=5)
    return base | changes


def table(rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=SCHEMA, orient="row")


#: Drop of recognition at 1 % black by method and layer, of the realistic run.
EFFECT = {
    ("grad-cam", "1"): 0.035, ("grad-cam", "N/2"): 0.045, ("grad-cam", "N"): 0.022,
    ("grad-cam++", "1"): 0.05, ("grad-cam++", "N/2"): 0.02, ("grad-cam++", "N"): 0.004,
    ("layer-cam", "1"): 0.08, ("layer-cam", "N/2"): 0.06, ("layer-cam", "N"): 0.03,
    ("random", None): 0.03,
}  # fmt: skip
CALLS = {"1": "1", "N/2": "24", "N": "48", None: None}
FILLS = {"black": 1.0, "white": 1.2, "mean": 0.6, "random": 1.1, "blur": 0.35}
BUDGETS = (0.01, 0.03, 0.1)


def realistic(people: int = 60, targets: Iterable[str] = ("mobilefacenet-casia",)) -> pl.DataFrame:
    """A run of 3 methods, 3 layers, 3 budgets, 5 fills and random pixels; Grad-CAM++ has flats."""
    draw = np.random.default_rng(1)
    names = [f"Person_{number:02}" for number in range(people)]
    clean = np.clip(1 - draw.gamma(0.6, 0.06, people), 0.4, 1)
    frailty = draw.gamma(2.0, 0.5, people)
    flat = {"N/2": draw.random(people) < 0.3, "N": draw.random(people) < 0.05}
    rows = []
    for target in targets:
        for (method, layer), effect in EFFECT.items():
            for budget in BUDGETS:
                for fill, strength in FILLS.items():
                    size = effect * strength * (budget / 0.01) ** 0.75
                    for index, name in enumerate(names):
                        none = method == "grad-cam++" and layer in flat and flat[layer][index]
                        lost = 0.0 if none else size * frailty[index] * draw.uniform(0.7, 1.3)
                        pixels = 0 if none else round(budget * PIXELS)
                        rate = max(0.0, clean[index] - round(lost, 2))
                        rows.append(
                            row(
                                target=target,
                                source=target if layer else None,
                                method=method,
                                layer=layer,
                                layer_calls=CALLS[layer],
                                options="variant=equation" if method == "grad-cam++" else "",
                                objective="cosine" if layer else None,
                                budget=budget,
                                fill=fill,
                                identity=name,
                                clean_rate=clean[index],
                                rate=rate,
                                clean_cosine=0.6,
                                cosine=0.6 - 1.2 * lost,
                                budget_pixels=round(budget * PIXELS),
                                masked_pixels=float(pixels),
                                masked_share=pixels / PIXELS,
                                maps=12 if layer else 0,
                                maps_degenerate=12 if none else (index % 3 == 0) * 2,
                                degenerate=bool(none),
                                draws=1 if layer else 5,
                            )
                        )
    return table(rows)


PROVENANCE: dict[str, Any] = {
    "facefocus": "0.1.0",
    "libraries": {"torch": "2.13.0", "numpy": "2.4.6", "opencv": "5.0.0"},
    "machine": {"cpu": "AMD EPYC", "cores": 2, "system": "Linux"},
    "threads": 2,
    "recognizers": [
        {"name": "mobilefacenet-casia", "fingerprint": "3f7a" * 16},
    ],
    "faces": {"title": "lfw", "hash": "ab12" * 16, "path": "faces/lfw", "frames": 9164},
    "thresholds": [
        {"recognizer": "mobilefacenet-casia", "rule": "eer", "threshold": 0.2913, "pairs": 6000}
    ],
    "started": "2026-11-23T08:00:00Z",
    "finished": "2026-11-23T08:04:10Z",
    "passes": {"forward": 4210, "backward": 1180},
}
EXPERIMENT = """title = "made-up"
faces = "faces/lfw"
recognizers = ["mobilefacenet-casia"]

[occlusion]
budgets = [0.01, 0.03, 0.1]
"""


def write_run(
    folder: Path, results: pl.DataFrame, provenance: dict[str, Any] | None = None
) -> Path:
    """A run folder without pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    results.write_parquet(folder / "results.parquet")
    (folder / "experiment.toml").write_text(EXPERIMENT)
    (folder / "provenance.json").write_text(json.dumps(provenance or PROVENANCE))
    return folder


def add_gallery(folder: Path, people: Iterable[str], *, side: int = 112) -> None:
    """Maps that favour the eyes or mouth, and masks of the largest pixels, for each method."""
    draw = np.random.default_rng(2)
    y, x = np.mgrid[:side, :side] / side
    rows: list[dict[str, Any]] = []
    maps, masks = [], []
    for image, name in enumerate(people):
        for method, layer in EFFECT:
            if layer is None:
                continue
            flat = method == "grad-cam++" and layer == "N/2" and image % 2 == 0
            width = {"1": 0.03, "N/2": 0.08, "N": 0.2}[layer]
            center = draw.uniform(0.3, 0.7, (4, 2))
            grid = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * width**2)) for a, b in center)
            grid = np.zeros_like(x) if flat else grid / grid.max()
            order = np.argsort(-grid, axis=None)
            cut = np.zeros((len(BUDGETS), side * side), bool)
            for index, budget in enumerate(BUDGETS):
                cut[index, order[: 0 if flat else round(budget * side * side)]] = True
            maps.append(grid.astype(np.float32))
            masks.append(cut.reshape(-1, side, side))
            rows.append(
                {
                    "index": len(rows),
                    "identity": name,
                    "image": image,
                    "source": "mobilefacenet-casia",
                    "method": method,
                    "options": "variant=equation" if method == "grad-cam++" else "",
                    "layer": layer,
                    "objective": "cosine",
                    "degenerate": flat,
                }
            )
    pl.DataFrame(rows).write_parquet(folder / "gallery.parquet")
    np.savez(
        folder / "gallery.npz",
        maps=np.stack(maps), masks=np.stack(masks), budgets=np.array(BUDGETS),
    )  # fmt: skip
