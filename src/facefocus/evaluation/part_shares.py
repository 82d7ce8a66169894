"""How much of maps and masks lies in which part of the face, against its area, and in words.

Protocol: part-atlas.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facefocus.core.text import percent
from facefocus.evaluation.statistics import LEVEL, Interval, holm, mean_interval, paired_p_values
from facefocus.faces.part_atlas import PART_WORDS, areas, shares


@dataclass(frozen=True)
class PartShare:
    """How much of some maps or masks lies in one part.

    Attributes:
        part: Of `facefocus.faces.part_atlas.PART_NAMES`.
        area: The part's share of the crop's pixels: what a map that knows nothing has there.
        share: Mean share over the people or photos, with its interval.
        p_value: Of a paired t test of the shares against the area, corrected by Holm over all
            parts; NaN where there is no interval.
    """

    part: str
    area: float
    share: Interval
    p_value: float

    @property
    def side(self) -> int:
        """1 where the share is shown to be above the area, -1 below, 0 where neither is shown."""
        if not self.p_value < 1 - LEVEL:
            return 0
        return int(self.share.low > self.area) - int(self.share.high < self.area)


def part_shares(maps: Iterable[np.ndarray], *, seed: int = 0) -> tuple[PartShare, ...]:
    """The share of maps or masks in every part, with intervals over them.

    Args:
        maps: One mask [side, side] (bool) or map (float) for each person or photo, as in
            `facefocus.faces.part_atlas.shares`; those without shares are left out.
        seed: Of the intervals.

    Raises:
        UserError: As `facefocus.faces.part_atlas.parts`.
        ValueError: No mask or map has shares.

    Example:
        >>> from facefocus.faces.part_atlas import parts
        >>> eyes = part_shares([parts()["eyes"]])[1]
        >>> eyes.part, eyes.share.value
        ('eyes', 1.0)
    """
    maps = list(maps)
    return shares_of(
        [shares(item) for item in maps], areas(len(maps[0]) if maps else 112), seed=seed
    )


def shares_of(
    rows: Sequence[Mapping[str, float]], area: Mapping[str, float], *, seed: int = 0
) -> tuple[PartShare, ...]:
    """`part_shares` of shares that are known: one row for each person or photo.

    Raises:
        ValueError: No row is without NaN.
    """
    known = [row for row in rows if np.isfinite(list(row.values())).all()]
    if not known:
        raise ValueError("Shares need at least one mask or map that is not constant.")
    table = np.array([[row[part] for row in known] for part in area])
    intervals = [mean_interval(row, share=True, seed=seed) for row in table]
    if np.isnan(intervals[0].low):
        p_values = [float("nan")] * len(table)
    else:
        differences = table - np.array(list(area.values()))[:, None]
        p_values = holm(paired_p_values(differences).t.tolist())
    return tuple(
        PartShare(part, area[part], interval, p)
        for part, interval, p in zip(area, intervals, p_values, strict=True)
    )


def in_words(parts: Sequence[PartShare], *, what: str, over: str) -> str:
    """One paragraph for a layperson; it claims only what the intervals support.

    Args:
        parts: The shares of all parts.
        what: What has them: ``"the hidden pixels"``, ``"the map"``.
        over: What the intervals are over: ``"12 photos"``.

    Example:
        >>> from facefocus.faces.part_atlas import parts
        >>> print(in_words(part_shares([parts()["eyes"]]), what="the mask", over="1 photo"))
        Of the mask, 100 % lies on the eyes (4.6 % of the picture). This is from 1 photo: too \
few to say whether others are alike.
    """
    ranked = sorted(parts, key=lambda share: -share.share.value)
    if np.isnan(ranked[0].share.low):
        most = [_listed(share) for share in ranked if share.share.value > share.area]
        return (
            f"Of {what}, {_joined(most)}. This is from {over}: too few to say whether others are"
            " alike."
        )
    more, less, same = ([share for share in ranked if share.side == side] for side in (1, -1, 0))
    sentences = []
    if more:
        listed = _joined([_listed(share) for share in more])
        sentences.append(f"Of {what}, {listed}: more than the area would give.")
    if less:
        sentences.append(f"Less than the area would give: {_joined([_listed(s) for s in less])}.")
    if same:
        words = _joined([PART_WORDS[share.part] for share in same])
        sentences.append(f"For {words} no difference from the area is shown.")
    return " ".join([*sentences, f"Intervals are of 95 %, over {over}."])


def _listed(share: PartShare) -> str:
    low, high = share.share.low, share.share.high
    interval = "" if np.isnan(low) else f"between {percent(low)} and {percent(high)}; "
    return (
        f"{percent(share.share.value)} lies on {PART_WORDS[share.part]}"
        f" ({interval}{percent(share.area)} of the picture)"
    )


def _joined(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
