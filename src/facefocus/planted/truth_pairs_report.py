"""What methods score on pairs of real faces whose truth is known, as a Markdown document.

Every figure and every sentence with a figure in it is computed here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from facefocus.core.files import write_atomically
from facefocus.core.text import number, percent
from facefocus.evaluation.pixel_replacement import SHARES
from facefocus.evaluation.statistics import Interval, mean_interval, rank_agreement
from facefocus.planted.truth_pairs import STEPS, TRUTH
from facefocus.report.document import Block, Facts, Heading, Listing, Note, Paragraph, plain_table
from facefocus.report.markdown_renderer import markdown_document
from facefocus.saliency.methods import METHODS, Baseline
from facefocus.saliency.pair_level import explains_pairs

#: The baseline that a method should beat: it looks at no face.
BLOB = "center-gaussian"
#: Shares given back that tables show.
SHOWN = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def write_document(table: pl.DataFrame, command: str, out: Path) -> Path:
    """Write the document on the rows of `truth_pairs.run_truth_pairs`.

    Args:
        table: The rows.
        command: How they were made.
        out: The Markdown file.

    Raises:
        UserError: The file cannot be written.
    """
    table = table.with_columns(
        label=pl.col("method") + pl.when(pl.col("layer").is_null()).then(pl.lit(""))
        .otherwise(pl.lit(" @ ") + pl.col("layer"))
    )  # fmt: skip
    blocks = [
        Heading("Which method finds what is true of pairs of real faces?", 1),
        Note(f"Made by `{command}`; no figure here is typed by hand."),
        *_opening(table),
        *_short(table),
        *_patches(table.filter(game="patches")),
        *_transplants(table.filter(game="transplants")),
        *_rankings(table),
    ]
    text = markdown_document(blocks)
    write_atomically(out, lambda file: file.write(text.encode()))
    return out


# Figures ------------------------------------------------------------------------------------------


def by_person(rows: pl.DataFrame, score: str) -> Float[np.ndarray, " people"]:
    """The mean of each person's rows, of all recognizers: the unit of intervals."""
    means = rows.group_by("person", maintain_order=True).agg(pl.col(score).mean())
    return means.sort("person")[score].to_numpy().astype(np.float64)


def figure(rows: pl.DataFrame, score: str) -> Interval:
    """The mean of a score over people, with its interval; NaN without rows."""
    values = by_person(rows, score)
    return mean_interval(values, share=True) if len(values) else Interval(*[math.nan] * 3)


def advantage(rows: pl.DataFrame, others: pl.DataFrame, score: str) -> Interval:
    """By how much a method's score is larger than another's, on the pairs that both have."""
    keys = ["recognizer", "image"]
    both = rows.join(others.select(*keys, other=score), on=keys, how="inner")
    return mean_interval(by_person(both.with_columns(gain=pl.col(score) - pl.col("other")), "gain"))


def _labelled(rows: pl.DataFrame, score: str, *, largest: bool = True) -> dict[str, pl.DataFrame]:
    """The rows of each method, the best first; the truth on top."""
    parts = {str(name): part for (name,), part in rows.group_by(["label"], maintain_order=True)}
    order = sorted(
        parts,
        key=lambda name: (name != TRUTH, (-1 if largest else 1) * figure(parts[name], score).value),
    )
    return {name: parts[name] for name in order}


def _is_method(label: str) -> bool:
    name = label.partition(" @ ")[0]
    return name != TRUTH and not isinstance(METHODS[name], Baseline)


def _mean(values: pl.Series) -> float:
    return float(np.mean(values.to_numpy()))


def _text(rows: pl.DataFrame, score: str) -> str:
    mean = figure(rows, score)
    if math.isnan(mean.value):
        return ""
    # What is so by definition has no interval.
    return number(mean.value) if rows["method"][0] == TRUTH else mean.text()


# What was done ------------------------------------------------------------------------------------


def _opening(table: pl.DataFrame) -> Iterator[Block]:
    yield Paragraph(
        "Two face sets made of LFW, in which it is known which pixels of a photo speak for a match"
        " (docs/protocol.md, truth-on-real-faces): photos with patches of another person, and twins"
        " that differ from a photo by another person's eyes, nose or mouth. Methods with their"
        " default options; layer behind the @. Means with 95 % intervals over people; a person's"
        " pairs, and all recognizers, are averaged first."
    )
    yield Facts(
        {
            "AUC": "how often the map is larger at a pixel of the truth than at another (chance"
            " 0.5)",
            "Share": "of the map's values above its least one, inside the truth",
            "Pointing": "whether the map's largest value is in the truth",
            "IoU": "of the truth and as many of the map's largest pixels",
            "Error": "share of wrong decisions while pixels are given back, mean over 5 to 95 % of"
            " them: lower is better",
            TRUTH: "the truth itself as a map: what is possible",
        }
    )
    yield _recognizers(table)
    yield from _left_out(table)


def _recognizers(table: pl.DataFrame) -> Block:
    """Thresholds, pairs, and how often they are decided wrongly as they are."""
    lines = []
    for name in table["recognizer"].unique(maintain_order=True):
        rows = table.filter(recognizer=name, method=TRUTH)
        patches, twins = rows.filter(game="patches"), rows.filter(game="transplants")
        parts = twins.group_by("part").len().sort("part").rows()
        wrong = patches.with_columns(wrong=pl.col("matches").list.first() != pl.col("mated"))
        lines.append(
            [
                name,
                number(rows["threshold"][0]),
                f"{patches['mated'].sum()} + {(~patches['mated']).sum()}",
                percent(_mean(wrong.filter("mated")["wrong"]), 0),
                percent(_mean(wrong.filter(~pl.col("mated"))["wrong"]), 0),
                f"{twins.height}: {', '.join(f'{count} {part}' for part, count in parts)}",
            ]
        )
    return plain_table(
        ["recognizer", "threshold", "patched pairs", "FNMR", "FMR", "twins that count"], lines
    )


def _left_out(table: pl.DataFrame) -> Iterator[Block]:
    """Methods with fewer pairs, and without any."""
    twins = table.filter(game="transplants").group_by("label", "recognizer").len()
    fewer = dict(twins.group_by("label").agg(pl.col("len").max()).sort("len", "label").iter_rows())
    most = max(fewer.values())
    cut = [f"{label} {count}" for label, count in fewer.items() if count != most]
    yield Paragraph(
        "FNMR and FMR: of the pairs as they are, before anything is given back. Methods that take"
        f" seconds for a map have fewer pairs ({most} twins a recognizer, and as many patched pairs"
        f" of either kind, of the others): {', '.join(cut) or 'none'}."
    )

    absent = [name for name in METHODS if name not in set(table["method"])]
    pairs = [name for name in absent if explains_pairs(name)]
    people = [name for name in absent if not explains_pairs(name)]
    yield Paragraph(
        f"Not in this run, though they explain pairs: {', '.join(pairs) or 'none'}. Explain people"
        f" alone, and have no row: {', '.join(people) or 'none'}."
    )


# The answer ---------------------------------------------------------------------------------------


def _short(table: pl.DataFrame) -> Iterator[Block]:
    yield Heading("In short", 2)
    sentences = []
    for game, where in (
        ("patches", "patches of another person"),
        ("transplants", "a transplanted part"),
    ):
        rows = _labelled(table.filter(game=game), "auc")
        methods = [label for label in rows if _is_method(label)]
        top = methods[0]
        blob = rows[BLOB] if BLOB in rows else rows["random"]
        better = [m for m in methods if advantage(rows[m], blob, "auc").low > 0]
        chance = [m for m in methods if not figure(rows[m], "auc").low > 0.5]
        sentences += [
            f"Of {where}, {top} has the largest AUC: {figure(rows[top], 'auc').text()}; a blob in"
            f" the middle has {figure(blob, 'auc').text()}, the truth itself 1.",
            f"Shown to find {where} better than the blob:"
            f" {', '.join(better) or 'no method'}. Not shown to be better than chance:"
            f" {', '.join(chance) or 'no method'}.",
        ]
    agreements = _agreements(_complete(table))
    low = {name: each for name, each in agreements.items() if "insertion" in name}
    for name, each in low.items():
        first, second = name.split(" / ")
        claim = (
            "agree" if each.low > 0 else "disagree" if each.high < 0 else "are not shown to agree"
        )
        sentences.append(f"The rankings by {first} and by {second} {claim}: rho {each.text()}.")
    yield Listing(sentences)


# The two sets -------------------------------------------------------------------------------------


def _patches(rows: pl.DataFrame) -> Iterator[Block]:
    mated, other = rows.filter("mated"), rows.filter(~pl.col("mated"))
    yield Heading("Patches", 2)
    yield Paragraph(
        "A mated pair's truth is what is left of the person; a non-mated pair's are the patches"
        f" of the partner. Of the pixels, {percent(_mean(mated['chance']), 0)} and"
        f" {percent(_mean(other['chance']), 0)} are in the truth: chance of share and pointing."
    )
    yield _by_recognizer(rows, "AUC, mated and non-mated pairs")
    scores = {"AUC": "auc", "share": "share", "pointing": "pointing", "IoU": "overlap"}
    for kind, part in (("Mated pairs", mated), ("Non-mated pairs", other)):
        yield _scores(part, scores, f"{kind}, all recognizers")
    yield _replacement(rows, mated, "FNMR", "mated pairs")
    yield _replacement(rows, other, "FMR", "non-mated pairs")


def _transplants(rows: pl.DataFrame) -> Iterator[Block]:
    yield Heading("Transplants", 2)
    yield Paragraph(
        "The map of the probe and its mate against the map of the probe and the mate's twin; no"
        " pixel of the probe was changed. Baselines are the map itself: they say how much of the"
        f" score is place alone. Chance of share and pointing is {percent(_mean(rows['chance']))}."
    )
    yield _by_recognizer(rows, "AUC")
    scores = {
        **{"AUC": "auc", "share": "share", "pointing": "pointing", "IoU": "overlap"},
        **{"deletion": "deletion", "insertion": "insertion"},
    }
    yield _scores(rows, scores, "All recognizers")
    yield Paragraph(
        f"Deletion (lower is better) and insertion: area under {STEPS} steps of the share of probes"
        " that match the mate, by the map of probe and mate alone."
    )
    yield _replacement(rows, rows, "FNMR", "twins")


def _by_recognizer(rows: pl.DataFrame, caption: str) -> Block:
    names = rows["recognizer"].unique(maintain_order=True).to_list()
    return plain_table(
        ["", *names, "all"],
        [
            [
                label,
                *(_text(part.filter(recognizer=name), "auc") for name in names),
                _text(part, "auc"),
            ]
            for label, part in _labelled(rows, "auc").items()
        ],
        caption,
    )


def _scores(rows: pl.DataFrame, scores: Mapping[str, str], caption: str) -> Block:
    return plain_table(
        ["", *scores],
        [
            [label, *(_text(part, score) for score in scores.values())]
            for label, part in _labelled(rows, "auc").items()
        ],
        caption,
    )


def _replacement(rows: pl.DataFrame, kind: pl.DataFrame, rate: str, what: str) -> Block:
    """The rate as it is and with shares of the pixels given back, and its area."""
    wrong = kind.with_columns(
        wrong=pl.concat_list("matches", "mated").list.eval(pl.element() != pl.element().last())
    )
    steps = [SHARES.index(share) + 1 for share in SHOWN]
    lines = []
    for label, part in _labelled(wrong, "error", largest=False).items():
        rates = [
            figure(part.with_columns(rate=pl.col("wrong").list.get(step).cast(pl.Float64)), "rate")
            for step in steps
        ]
        lines.append([label, _text(part, "error"), *(number(each.value) for each in rates)])
    return plain_table(
        ["", "error", *(f"X = {percent(share, 0)}" for share in SHOWN)],
        lines,
        f"{rate} of {what} with X of the pixels given back, all recognizers",
    )


# Rankings -----------------------------------------------------------------------------------------

#: The rankings: what each is called, the game, and the score, larger is better.
RANKINGS: dict[str, tuple[str, pl.Expr]] = {
    "AUC on patches": ("patches", pl.col("auc")),
    "error on patches": ("patches", -pl.col("error")),
    "AUC on transplants": ("transplants", pl.col("auc")),
    "error on transplants": ("transplants", -pl.col("error")),
    "insertion - deletion": ("transplants", pl.col("insertion") - pl.col("deletion")),
}


def _rankings(table: pl.DataFrame) -> Iterator[Block]:
    yield Heading("Does a cheap score tell what the truth tells?", 2)
    complete, full = _complete(table), _with_all_pairs(table)
    yield Paragraph(
        "Spearman's rank correlation of the methods' means, with every value that their order"
        " leaves open (docs/protocol.md, statistics). Insertion and deletion need no truth. Left:"
        f" all {complete['label'].n_unique()} methods and baselines, on the pairs that all have"
        f" ({complete['person'].n_unique()} people); right: the {full['label'].n_unique()} that"
        f" have all pairs ({full['person'].n_unique()} people)."
    )
    sides = [_agreements(complete), _agreements(full)]
    yield plain_table(
        ["rankings", "all methods", "methods with all pairs"],
        [[name, *(side[name].text() for side in sides)] for name in sides[0]],
    )
    means = {
        name: {
            label: float(np.mean(by_person(part.with_columns(ranked=score), "ranked")))
            for label, part in _labelled(table.filter(game=game), "auc").items()
            if label != TRUTH
        }
        for name, (game, score) in RANKINGS.items()
    }
    ranks = {name: sorted(by_label, key=lambda m: -by_label[m]) for name, by_label in means.items()}
    first = list(ranks["AUC on patches"])
    yield plain_table(
        ["", *RANKINGS],
        [[label, *(str(ranks[name].index(label) + 1) for name in RANKINGS)] for label in first],
        "Rank of each method, on all pairs that it has",
    )


def _complete(table: pl.DataFrame) -> pl.DataFrame:
    """The pairs that every method has; without the truth itself."""
    rows = table.filter(pl.col("method") != TRUTH)
    count = rows["label"].n_unique()
    keys = ["game", "recognizer", "image"]
    shared = rows.group_by(keys).agg(pl.col("label").n_unique()).filter(label=count)
    return rows.join(shared.select(keys), on=keys, how="semi", maintain_order="left")


def _with_all_pairs(table: pl.DataFrame) -> pl.DataFrame:
    """The methods that have as many pairs as any."""
    rows = table.filter(pl.col("method") != TRUTH)
    counts = rows.group_by("label").len()
    return rows.join(counts.filter(pl.col("len") == pl.col("len").max()), on="label", how="semi")


def _agreements(rows: pl.DataFrame) -> dict[str, Interval]:
    """The rank correlation of every two rankings."""
    sides = {
        name: _matrix(rows.filter(game=game), score) for name, (game, score) in RANKINGS.items()
    }
    names = list(RANKINGS)
    agreements = {}
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            # People are not paired across rankings; as many count on either side.
            people = min(sides[name].shape[1], sides[other].shape[1])
            agreements[f"{name} / {other}"] = rank_agreement(
                sides[name][:, :people], sides[other][:, :people], kind="spearman"
            )
    return agreements


def _matrix(rows: pl.DataFrame, score: pl.Expr) -> Float[np.ndarray, "methods people"]:
    scored = rows.with_columns(ranked=score)
    labels = sorted(scored["label"].unique())
    return np.stack([by_person(scored.filter(label=label), "ranked") for label in labels])
