"""How well a network tells apart people whom it never saw."""

from __future__ import annotations

import numpy as np
from torch import nn

from facefocus.evaluation.verification import (
    Rule,
    VerificationReport,
    check_rule,
    pair_scores,
    sample_pairs,
    verify,
)
from facefocus.models.recognizer import Recognizer, TorchRecognizer
from facefocus.planted.train.data import Split
from facefocus.planted.train.recipe import Recipe

#: Mated pairs, and as many non-mated ones.
PAIRS = 6000


def figures(module: nn.Module, recipe: Recipe, data: Split) -> VerificationReport:
    """TMR, EER and accuracy of a network on seeded pairs of the unseen people."""
    reader = recipe.network.reader()
    return unseen_report(TorchRecognizer(recipe.name, module, reader, identity=""), recipe, data)


def unseen_report(recognizer: Recognizer, recipe: Recipe, data: Split) -> VerificationReport:
    """The same of any recognizer.

    Raises:
        UserError: The unseen people have no mated or no non-mated pair.
    """
    rows = data.unseen_rows
    pairs = sample_pairs(data.faces.identities[rows], count=PAIRS, seed=recipe.seed)
    mated = int(pairs.mated.sum())
    check_rule(Rule("eer"), mated, len(pairs.mated) - mated, f"{data.faces.title}: people unseen")
    embeddings = recognizer.embed(np.array(data.faces.frames[rows]))
    scores = pair_scores(embeddings, pairs.first, pairs.second)
    return verify(scores, pairs.mated, pairs.fold)
