"""The table of ratios, docs/performance.md and its pictures, from results alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks import workloads
from facefocus.core.files import write_atomically

Row = dict[str, Any]

OURS, RIVAL = "#1b6ca8", "#c8553d"


def ratios(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if "median" in row]


def table_lines(results: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    """Plain text: one line for each ratio, growth and share of the peak."""
    for name, rows in results.items():
        for row in ratios(rows):
            spread = f"{row['median']:7.1f}x  ({row['low']:.1f} to {row['high']:.1f})"
            yield f"{name}  {row['what']:<52} {spread:<26} {_verdict(row)}  against {row['rival']}"
            if "share_of_peak" in row:
                speed = row["images_per_second"]["median"]
                share = f"{speed:.1f} images/s, {row['share_of_peak']:.0%} of the matmul peak"
                yield f"{name}  {'':<52} {share} {_share_verdict(row)}".rstrip()
        for row in rows:
            if "time_exponent" in row:
                yield (
                    f"{name}  {row['what']:<52} time ~ n^{row['time_exponent']:.2f},"
                    f" memory ~ n^{row['memory_exponent']:.2f}  {_growth_verdict(row)}"
                ).rstrip()


def _verdict(row: Row) -> str:
    if row["target"] is None:
        return "no target"
    met = "met" if row["median"] >= row["target"] else "NOT met"
    bound = _bound(row)
    if met == "NOT met" and bound is not None and bound < row["target"]:
        met = f"out of reach: the peak allows {bound:.1f}x"
    return f"target {row['target']:g}x {met}"


def _bound(row: Row) -> float | None:
    """How many times as fast as its rival a workload would be at the whole peak of the machine."""
    if "share_of_peak" not in row:
        return None
    bound: float = row["median"] / row["share_of_peak"]
    return bound


def _share_verdict(row: Row) -> str:
    if row.get("share_target") is None:
        return ""
    met = "met" if row["share_of_peak"] >= row["share_target"] else "NOT met"
    return f"(target {row['share_target']:.0%} {met})"


def _growth_verdict(row: Row) -> str:
    if "time_target" not in row:
        return ""
    low, high = row["time_target"]
    met = "met" if low <= row["time_exponent"] <= high else "NOT met"
    wanted = f"{low} to {high}" if low else f"at most {high}"
    return f"target time {wanted} {met}"


# The page -----------------------------------------------------------------------------------------


def write_page(machines: Mapping[str, Mapping[str, Mapping[str, Any]]], docs: Path) -> Path:
    """Write ``performance.md``, a part for each machine, and its pictures; returns the page."""
    images = docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    parts = [HEAD]
    for machine, results in machines.items():
        parts += _machine_part(machine, results, images)
    parts.append(TAIL)
    page = docs / "performance.md"
    text = "\n".join(parts)
    write_atomically(page, lambda file: file.write(text.encode()))
    return page


def _machine_part(
    machine: str, results: Mapping[str, Mapping[str, Any]], images: Path
) -> Iterator[str]:
    workloads = {name: measured for name, measured in results.items() if name != "card"}
    rows = {name: measured["rows"] for name, measured in workloads.items()}
    yield f"## {machine}\n"
    if workloads:
        yield _machine(workloads)
    if "card" in results:
        yield "\n".join(_card_lines(results["card"])) + "\n"
    if any(ratios(some) for some in rows.values()):
        _ratio_picture(rows, images / f"performance-{machine}-ratios.png")
        yield f"![Ratios with quartiles](images/performance-{machine}-ratios.png)\n"
    for name, measured in workloads.items():
        yield _section(name, measured)
    if "w6" in rows:
        _growth_picture(rows["w6"], images / f"performance-{machine}-growth.png")
        yield f"![Growth](images/performance-{machine}-growth.png)\n"


def _card_lines(card: Mapping[str, Any]) -> Iterator[str]:
    """What `benchmarks.on_card` found: rates against what the card can do, and whole jobs."""
    yield f"### Card: {card['machine']['card']}"
    yield ""
    peaks = card.get("peaks")
    if isinstance(peaks, dict):
        rates = ", ".join(f"{name} {value / 1e12:.1f}" for name, value in peaks.items())
        yield f"Measured matmul peak, 10^12 operations per second: {rates}."
        yield ""
    for name, job in card.items():
        if name.startswith("job ") and isinstance(job, dict):
            yield (
                f"`quick.toml` by `{name.removeprefix('job ')}`: {job['seconds']:.1f} s from the"
                f" shell, {job['until_first_pass']:.1f} s of them before the first pass;"
                f" {job['images']} images, {job['padded'] / job['images']:.1%} of them filling."
            )
            yield ""
    yield (
        "| network, backend | engine | compiled | scoring | of compiled | busy | of peak | RISE"
        " | of compiled | busy | least batch |"
    )
    yield "|---" * 11 + "|"
    for name, figures in card.items():
        if name.startswith("figures ") and isinstance(figures, dict):
            shares = [
                f"{figures[key]:.0%}" if isinstance(figures.get(key), float) else "not measured"
                for key in (
                    "scoring_share_of_compiled", "scoring_busy", "share_of_peak",
                    "rise_share_of_compiled", "rise_busy",
                )
            ]  # fmt: skip
            compiled = figures.get("compiled")
            rate = f"{compiled:,.0f}" if isinstance(compiled, float) else "not measured"
            cells = [
                name.removeprefix("figures "), f"{figures['engine']['best']:,.0f}", rate,
                f"{figures['scoring']:,.0f}", *shares[:3], f"{figures['rise']:,.0f}", *shares[3:],
                str(figures["engine"]["least_batch"]),
            ]  # fmt: skip
            yield "| " + " | ".join(cells) + " |"


HEAD = """# Performance

Written by `make bench`; do not edit. Ratios are medians of repeats in which every rival ran in
turn in the same process on the same inputs, with quartiles. Faces are drawn and weights are
random where it is not said otherwise: neither changes what there is to compute. Each machine has a
part of its own. A table of a card is written by `python -m benchmarks.on_card`, which needs nothing
but torch and a folder of packages; without one here, nothing of this release has been measured on a
GPU.
"""

TAIL = """## What the rivals do

- **pytorch-grad-cam** is used as its README shows: one object and one call for each ordered pair,
  layer and method. A call runs the whole network forward and back to its input on one image,
  the gradients of the weights included, and resizes the map. The embedding of the reference is
  made once and not counted.
- **captum**'s LayerGradCam likewise, for Grad-CAM only, which is all of the three that it has; it
  takes no gradients of weights. It is compared with facefocus making the same maps.
- **The direct loop** of S-RISE masks an image, embeds it in batches of 16 (eager, NCHW, float32)
  and weighs the masks, for each pair anew.
- **Eager** is torch itself on batches of 16, NCHW, float32, without gradients.

A rival's time for all pairs is its time for one pair times their number; each repeat takes
another pair. facefocus runs all pairs, with everything that a run does: references, sums,
normalized and counted pair maps, and the map in the frame.

- **By hand** (W7, W8) is `benchmarks/by_hand.py`: pytorch-grad-cam, numpy, OpenCV and a loop, one
  map for each pair, layer and method, a batch of a person's photos for each mask and fill. It loads
  the recognizer, embeds the clean photos and finds the threshold, as a run does; it makes no page.
- **insightface's way** (W9) reads a photograph by OpenCV, aligns it by five known landmarks
  (`norm_crop`), makes a blob and runs onnxruntime, one photograph at a time as its `get` does, or
  16 at a time. facefocus reads, aligns and embeds as `prepare` and `verify` do. Nothing is detected
  on either side. Photographs are drawn ones, and the first of LFW's verification list where LFW and
  the recognizers are at hand. A network without PReLU (the drawn ones, mobilefacenet-ms1m) is
  nothing but float32 convolutions, which both libraries run at nearly one speed: see "embedding
  alone". What is saved there goes into reading: facefocus reads by Pillow, which takes twice as
  long as OpenCV here, because it refuses damaged files, and every face set so far was read by it.

Maps agree where definitions do: the section on W1 gives the largest difference of maps in [0, 1]
over three layers.
"""


def _machine(results: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for measured in results.values():
        machine = measured["machine"]
        text = (
            f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads,"
            f" torch {machine['libraries']['torch']}"
        )
        text += f", OpenVINO {machine['libraries'].get('openvino', 'absent')}"
        lines.append(text)
    processors = "; ".join(dict.fromkeys(lines))
    busy = [
        f"{name.upper()} ({measured['load']:.1f})"
        for name, measured in results.items()
        if measured["load"] > 1.5 * measured["machine"]["cores"]
    ]
    note = ""
    if busy:
        note = (
            f"\nOther programs were at work (load average above the number of cores) during"
            f" {', '.join(busy)}: ratios hold, for rivals ran in turn; images per second and shares"
            " of the peak do not.\n"
        )
    return f"Machine: {processors}.\n{note}"


def _section(name: str, measured: Mapping[str, Any]) -> str:
    rows: list[Row] = measured["rows"]
    lines = [f"### {name.upper()}: {workloads.WORKLOADS[name].__doc__}", ""]
    if ratios(rows):
        lines += [*_markdown_ratios(rows), ""]
    lines += _notes(rows)
    lines.append(f"Took {measured['seconds']:.0f} s, finished {measured['finished']}.\n")
    return "\n".join(lines)


def _markdown_ratios(rows: Sequence[Row]) -> Iterator[str]:
    speeds = any("images_per_second" in row for row in rows)
    more = ["images/s", "share of peak"] if speeds else ["facefocus", "rival"]
    head = ["what", "against", "ratio", "quartiles", "target", *more]
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for row in ratios(rows):
        cells = [
            row["what"],
            row["rival"],
            f"**{row['median']:.1f}x**",
            f"{row['low']:.1f} to {row['high']:.1f}",
            "-" if row["target"] is None else _verdict(row).removeprefix("target "),
        ]
        if speeds:
            speed = row["images_per_second"]["median"]
            cells += [
                f"{speed:.1f} (eager {row['eager_images_per_second']:.1f})",
                f"{row['share_of_peak']:.0%} {_share_verdict(row)}".strip(),
            ]
        else:
            cells += [f"{row['seconds']:.2f} s", f"{row['rival_seconds']:.1f} s"]
        yield "| " + " | ".join(cells) + " |"


def _notes(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if "passes" in row:
            parts = row["passes"]
            yield (
                f"{row['what']}: of {row['seconds']:.2f} s, the {workloads.IMAGES} images forward"
                f" take {parts['forward']:.2f} s and {parts['rounds']:.0f} rounds backward"
                f" {parts['backward']:.2f} s; neither can be shared further.\n"
            )
        if "eager_share_of_peak" in row:
            yield (
                f"{row['what']}: eager reaches {row['eager_share_of_peak']:.0%} of the float32"
                " peak; at the whole peak of its own precision this would be"
                f" {_bound(row):.1f} times as fast as eager.\n"
            )
        if "agreement" in row:
            differences = ", ".join(
                f"{name} {value:.1e}" for name, value in row["agreement"].items()
            )
            yield f"Largest difference to the tools' maps ({row['what']}): {differences}.\n"
        if "processor" in row:
            spent = row["processor"]
            yield (
                f"{row['what']}, against {row['rival']}: in processor seconds"
                f" {spent['ratio']:.1f}x ({spent['facefocus']:.2f} s against"
                f" {spent['rival']:.1f} s).\n"
            )
        for step, (ours, theirs) in row.get("steps", {}).items():
            yield (
                f"{row['what']}, against {row['rival']}: {step} alone in processor seconds"
                f" {theirs / ours:.2f}x ({ours:.3f} s against {theirs:.3f} s).\n"
            )
        if "job_agreement" in row:
            agreement = ", ".join(
                f"{name} {value:.4f}" for name, value in row["job_agreement"].items()
            )
            yield f"Both come to the same ({row['what']}): {agreement}.\n"
        if "left_out" in row:
            yield f"Left out: {row['what']}. {row['left_out']}\n"
        if "parts" in row:
            yield "\n".join(_parts_table(row)) + "\n"
        if "peaks" in row:
            matmul_peaks = ", ".join(
                f"{name} {value / 1e9:.0f}" for name, value in row["peaks"].items()
            )
            yield f"Measured matmul peak, 10^9 operations per second: {matmul_peaks}.\n"
        if "time_exponent" in row:
            sizes = ", ".join(map(str, row["sizes"]))
            times = ", ".join(f"{value:.1f}" for value in row["seconds"])
            peaks = ", ".join(f"{value / 2**20:.0f}" for value in row["peak_bytes"])
            yield (
                f"{row['what'][:1].upper()}{row['what'][1:]} ({sizes}): {times} s, time ~ n^"
                f"{row['time_exponent']:.2f} {_growth_verdict(row)}; peak memory {peaks} MiB,"
                f" ~ n^{row['memory_exponent']:.2f}.\n"
            )


def _parts_table(row: Row) -> Iterator[str]:
    """What each part of a job took."""
    parts = row["parts"]
    worked = sum(part["processor"] for part in parts)
    seconds = sum(part["seconds"] for part in parts)
    yield f"{row['what']}: {seconds:.1f} s, {worked:.1f} s of processors.\n"
    yield "| part | seconds | of processors | share | tasks | passes |"
    yield "|---" * 6 + "|"
    for part in parts:
        share = part["processor"] / worked if worked else 0.0
        tasks, passes = (f"{part[name]:,}" if part["tasks"] else "" for name in ("tasks", "passes"))
        yield (
            f"| {part['name']} | {part['seconds']:.1f} | {part['processor']:.1f} | {share:.0%}"
            f" | {tasks} | {passes} |"
        )


# Pictures -----------------------------------------------------------------------------------------


def _ratio_picture(results: Mapping[str, Sequence[Row]], path: Path) -> None:
    rows = [(name, row) for name, some in results.items() for row in ratios(some)]
    figure, axes = plt.subplots(figsize=(8, 0.46 * len(rows) + 1.2), layout="constrained")
    for position, (_, row) in enumerate(rows):
        spread = [[row["median"] - row["low"]], [row["high"] - row["median"]]]
        axes.barh(position, row["median"], color=OURS, height=0.62)
        axes.errorbar(row["median"], position, xerr=spread, color="black", capsize=2, linewidth=1)
        if row["target"] is not None:
            axes.plot(
                [row["target"]] * 2, [position - 0.42, position + 0.42], color=RIVAL, linewidth=2
            )
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [_label(name, row) for name, row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.axvline(1, color="gray", linewidth=0.8)
    axes.set_xlabel("times as fast as the rival; line: target")
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _label(name: str, row: Row) -> str:
    return f"{name.upper()}  {row['what']}\nagainst {row['rival']}"


def _growth_picture(rows: Sequence[Row], path: Path) -> None:
    grown = [row for row in rows if "time_exponent" in row]
    figure, panels = plt.subplots(2, len(grown), figsize=(8, 5.4), layout="constrained")
    for column, row in enumerate(grown):
        title = row["what"].removeprefix("growth with ")
        for panel, values, unit, power in (
            (panels[0][column], row["seconds"], "seconds", row["time_exponent"]),
            (
                panels[1][column],
                [value / 2**20 for value in row["peak_bytes"]],
                "peak MiB",
                row["memory_exponent"],
            ),
        ):
            panel.loglog(row["sizes"], values, "o-", color=OURS)
            panel.set_title(f"{unit} ~ n^{power:.2f}", fontsize=9)
            panel.set_xlabel(title, fontsize=8)
            panel.set_xticks(row["sizes"], [str(size) for size in row["sizes"]])
            panel.minorticks_off()
            panel.tick_params(labelsize=8)
            panel.spines[["top", "right"]].set_visible(False)
            if unit == "peak MiB":
                panel.set_ylim(min(values) / 3, max(values) * 3)
    figure.savefig(path, dpi=130)
    plt.close(figure)
