"""Runs made up for tests and for looking at pages: no recognizer, no face."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from facefocus.benchmark.collect import SCHEMA
from facefocus.benchmark.result_columns import CONFIGURATION, MAP, with_readings
from facefocus.benchmark.stages.robustness import SCHEMA as ROBUST_SCHEMA

PIXELS = 112 * 112


def row(**changes: Any) -> dict[str, Any]:
    """One result row, valid as it is; name what a test is about."""
    base: dict[str, Any] = {
        "experiment": "made-up", "faces": "lfw", "source": "net", "target": "net",
        "method": "grad-cam", "options": "", "layer": "N", "layer_calls": "48",
        "objective": "cosine", "evidence": "positive", "normalize": True, "arcface_scale": 1.0,
        "max_pairs": None, "split": "same", "control": None, "budget": 0.01,
        "fill": "black", "on_degenerate": "none", "compare": "clean", "threshold_rule": "eer",
        "threshold": 0.29, "seed": 0, "identity": "Ada", "images": 4, "pairs": 12,
        "clean_cosine": 0.6, "cosine": 0.5, "clean_rate": 1.0, "rate": 0.75, "budget_pixels": 125,
        "masked_pixels": 125.0, "masked_share": 125 / PIXELS, "maps": 12, "maps_degenerate": 0,
        "maps_ill_conditioned": 0, "degenerate": False, "draws": 1,
    }  # fmt: skip
    if changes.get("method") == "random":
        base.update(dict.fromkeys(("source", "layer", "layer_calls", "objective"), None))
        base.update(maps=0, draws=5)
    return base | changes


def table(rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    return with_readings(pl.DataFrame(list(rows), schema=SCHEMA, orient="row"))


def robust(nuisance: str, scores: np.ndarray, **changes: Any) -> list[dict[str, Any]]:
    """Rows of people: `scores` [people, 4] are clean, hidden, clean under it, hidden under it."""
    names = ("clean_rate", "rate", "nuisance_clean_rate", "nuisance_rate")
    base = {name: value for name, value in row(**changes).items() if name in CONFIGURATION}
    rows = []
    for person, values in enumerate(scores.tolist()):
        rates = dict(zip(names, values, strict=True))
        rates |= {name.replace("rate", "cosine"): value / 2 for name, value in rates.items()}
        about = {"identity": f"P{person:02}", "nuisance": nuisance, "reading": "artefact"}
        rows.append({**base, **about, **rates})
    return rows


def robust_table(*parts: list[dict[str, Any]]) -> pl.DataFrame:
    schema = {name: SCHEMA[name] for name in CONFIGURATION} | ROBUST_SCHEMA
    return pl.DataFrame([record for part in parts for record in part], schema=schema, orient="row")


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
    for image, who in enumerate(people):
        for method, layer in EFFECT:
            if layer is None:
                continue
            flat = method == "grad-cam++" and layer == "N/2" and image % 2 == 0
            width = {"1": 0.03, "N/2": 0.08, "N": 0.2}[layer]
            center = draw.uniform(0.3, 0.7, (4, 2))
            grid = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * width**2)) for a, b in center)
            grid = np.zeros_like(x) if flat else grid / grid.max()
            order = np.argsort(-grid, axis=None)
            maps.append(grid.astype(np.float32))
            about = row(
                method=method, source="mobilefacenet-casia", layer=layer, layer_calls=CALLS[layer],
                options="variant=equation" if method == "grad-cam++" else "",
            )  # fmt: skip
            for budget in BUDGETS:
                cut = np.zeros(side * side, bool)
                cut[order[: 0 if flat else round(budget * side * side)]] = True
                masks.append(cut.reshape(side, side))
                rows.append(
                    {name: about[name] for name in (*MAP, "on_degenerate")}
                    | {"map": len(maps) - 1, "index": len(rows), "identity": who, "image": image}
                    | {"faces": about["faces"]}
                    | {"budget": budget, "fill": None, "degenerate": flat}
                )
    pl.DataFrame(rows).write_parquet(folder / "gallery.parquet")
    np.savez(folder / "gallery.npz", maps=np.stack(maps), masks=np.stack(masks))


#: Methods of the large run: drop at 1 % black on the source, share that is this person's own,
#: share kept on held-out photos, share kept on another recognizer.
RIVALS = {
    ("grad-cam", "1"): (0.035, 0.0, 0.95, 0.9), ("grad-cam", "N/2"): (0.045, 0.02, 0.9, 0.8),
    ("grad-cam", "N"): (0.022, 0.0, 1.0, 0.9), ("grad-cam++", "1"): (0.05, 0.0, 0.95, 0.9),
    ("grad-cam++", "N/2"): (0.02, 0.0, 0.9, 0.9), ("grad-cam++", "N"): (0.004, 0.0, 1.0, 1.0),
    ("layer-cam", "1"): (0.08, 0.02, 0.95, 0.8), ("layer-cam", "N/2"): (0.06, 0.02, 0.95, 0.8),
    ("layer-cam", "N"): (0.03, 0.0, 0.9, 0.8), ("hires-cam", "1"): (0.07, 0.02, 0.95, 0.8),
    ("hires-cam", "N/2"): (0.05, 0.0, 0.9, 0.8), ("hires-cam", "N"): (0.03, 0.0, 0.9, 0.8),
    ("eigen-cam", "N/2"): (0.04, 0.0, 1.0, 1.0), ("eigen-cam", "N"): (0.03, 0.0, 1.0, 1.0),
    ("leam", "N"): (0.045, 0.0, 0.9, 0.8), ("s-rise", None): (0.085, 0.05, 0.9, 0.9),
    ("corr-rise", None): (0.09, 0.05, 0.9, 0.9), ("gradient-x-input", None): (0.1, 0.1, 0.8, 0.5),
    ("occlusion-gradient", None): (0.24, 0.3, 0.85, 0.6),
    ("occlusion-gradient", "steps=25"): (0.5, 0.5, 0.7, 0.5),
}  # fmt: skip
NETS = ("mobilefacenet-casia", "mobilefacenet-ms1m")
#: Drop of each control as a share of what is not this person's own.
WEAKER = {"shifted": 0.35, "other": 1.0, "population": 0.8, "pixels": 0.4, "blocks": 0.3}


def _effects() -> Iterable[tuple[dict[str, Any], float]]:
    """Settings and drop of every configuration of the large run, at 1 % black."""
    for target in NETS:
        reference = {"target": target, "source": None, "layer": None, "layer_calls": None,
                     "objective": None, "evidence": None, "normalize": None,
                     "arcface_scale": None, "maps": 0}  # fmt: skip
        for split in ("same", "heldout"):
            yield reference | {"method": "random", "split": split, "draws": 5}, 0.03
            yield reference | {"method": "center-gaussian", "split": split}, 0.05
        yield reference | {"method": "oracle", "source": target, "maps": 1}, 0.62
        for (method, layer), (drop, own, kept, across) in RIVALS.items():
            step = layer if layer and "=" in layer else None
            convolution = None if step else layer
            for source in (*NETS, "+".join(NETS)) if step else NETS:
                far = 1.0 if target in source else across
                setting = {"target": target, "source": source, "method": method,
                           "layer": convolution, "layer_calls": CALLS[convolution],
                           "options": step or ""}  # fmt: skip
                if convolution is None:
                    setting |= dict.fromkeys(
                        ("objective", "evidence", "normalize", "arcface_scale")
                    )
                yield setting | {"split": "half"}, drop * far
                for split, share in (("same", 1.0), ("heldout", kept)):
                    size = drop * far * share
                    yield setting | {"split": split}, size
                    for control, weaker in WEAKER.items():
                        shown = setting | {"split": split, "control": control, "draws": 5}
                        yield shown, size * (1 - own) * weaker


def large(people: int = 60) -> pl.DataFrame:
    """A run with everything: 20 methods and layers, 2 recognizers, 2 budgets, 2 fills, controls."""
    draw = np.random.default_rng(3)
    clean = np.clip(1 - draw.gamma(0.6, 0.06, people), 0.4, 1)
    frailty = draw.gamma(2.0, 0.5, people)
    rows = []
    for setting, drop in _effects():
        for budget in (0.01, 0.03):
            for fill in ("black", "blur"):
                size = drop * (1.0 if fill == "black" else 0.4) * (budget / 0.01) ** 0.6
                lost = size * frailty * draw.uniform(0.6, 1.4, people)
                for index in range(people):
                    # Half of the people have too few photos for two halves.
                    if setting.get("split") in ("heldout", "half") and index % 2:
                        continue
                    rows.append(
                        row(
                            **setting,
                            budget=budget,
                            fill=fill,
                            identity=f"Person_{index:03}",
                            clean_rate=clean[index],
                            rate=max(0.0, clean[index] - round(lost[index], 2)),
                            cosine=0.6 - 0.9 * min(lost[index], 0.7),
                            budget_pixels=round(budget * PIXELS),
                            masked_pixels=float(round(budget * PIXELS)),
                            masked_share=round(budget * PIXELS) / PIXELS,
                        )
                    )
    return table(rows)
