"""Photos found in a gallery of everybody, beside the pair rate (Protocol: photo-risk).

Computed where ``[evaluation]`` asks for it, from the embeddings that the scores are made of.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from facefocus.evaluation.photo_risk import (
    person_templates,
    photo_scores,
    template_thresholds,
    thresholds,
)
from facefocus.evaluation.verification import normalize, pair_cosines

if TYPE_CHECKING:
    from facefocus.benchmark.session import Session

#: The threshold at which recognizers are deployed.
STRICT = "fmr=1e-3"

#: Shares of a person's photos: in pairs at `STRICT`; matched by any photo of the person, and by
#: the template, at the experiment's threshold and at `STRICT`; the person's
#: template the nearest of everybody's. NaN where the face set has too few people or photos for it.
PHOTO_RISKS = (
    "rate_strict", "any_rate", "any_rate_strict", "template_rate", "template_rate_strict",
    "rank_one",
)  # fmt: skip


class Gallery:
    """The clean photos of everybody, as one recognizer sees them.

    Thresholds for templates come by the experiment's rule from the same photos as its threshold;
    one that is given as a number has none for templates.
    """

    def __init__(self, session: Session, target: str) -> None:
        pairs, plan = session.plan.pairs, session.plan
        listed = [pairs.first, pairs.second]
        rows = np.unique(np.concatenate([*listed, *(person.rows for person in plan.people)]))
        self._clean = normalize(session.embeddings(target)[rows])
        self._people = session.faces.identities[rows]
        self._names = np.unique(self._people)
        self._judged, self._owners = self._clean, self._people
        if other := session.spec.calibration is not None:
            rows = np.unique(np.concatenate([plan.calibration.first, plan.calibration.second]))
            self._judged = normalize(session.embeddings(target, calibrate=True)[rows])
            self._owners = session.calibrating.identities[rows]
        every = session.embeddings(target, calibrate=other)
        strict = thresholds(*pair_cosines(every, plan.calibration), {"_strict": STRICT})
        self._pair = {"": session.threshold(target)} | strict
        rule = session.experiment.evaluation.rule
        own = {} if rule.kind == "given" else {"": str(replace(rule, faces=None))}
        self._rules = own | {"_strict": STRICT}
        self._templates = cache(self._templates_of)
        self._levels = cache(self._levels_of)
        # Masks come person by person, and a copy is made for each person.
        self._others = lru_cache(maxsize=1)(self._others_of)

    @property
    def people(self) -> int:
        """How many people have a template in it."""
        return len(self._names)

    def _templates_of(self, size: int) -> Float[np.ndarray, "people d"]:
        return person_templates(self._clean, self._people, size)

    def _others_of(self, name: str, size: int) -> Float[np.ndarray, "others d"]:
        others: np.ndarray = self._templates(size)[self._names != name]
        return others

    def _levels_of(self, size: int) -> dict[str, float]:
        return template_thresholds(self._judged, self._owners, size, self._rules)

    def risks(
        self,
        name: str,
        clean: Float[np.ndarray, "n d"],
        hidden: Float[np.ndarray, "n d"],
    ) -> dict[str, float]:
        """`PHOTO_RISKS` of one person's photos, each looked for among the person's others.

        Args:
            name: Whose template is not among those of other people.
            clean: Raw embeddings of the photos as the gallery has them.
            hidden: Of the photos that are looked for.
        """
        size = len(clean) - 1
        others = self._others(name, size)
        levels = self._levels(size)
        values = dict.fromkeys(PHOTO_RISKS, np.nan)
        apart = ~np.eye(len(clean), dtype=bool)
        scores = photo_scores(hidden, clean, compared=apart, others=others if len(others) else None)
        for end, level in self._pair.items():
            risk = scores.risk(threshold=level, template_threshold=levels.get(end, np.nan))
            values[f"any_rate{end}"] = risk.any.mean()
            if end in levels:
                values[f"template_rate{end}"] = risk.template.mean()
            if risk.rank_one is not None:
                values["rank_one"] = risk.rank_one.mean()
        if "_strict" in self._pair:
            values["rate_strict"] = (scores.pairs[apart] >= self._pair["_strict"]).mean()
        return {key: float(value) for key, value in values.items()}
