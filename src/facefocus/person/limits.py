"""What cannot be proven with what was given, why, and how to get it: sentences for the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from facefocus.models.lineage import NOT_STATED, UNSEEN, kinship, shared_by
from facefocus.models.recognizer import Recognizer, is_white_box
from facefocus.models.zoo import lineage
from facefocus.person.candidates import BLACK_BOX_METHOD, SEARCH_METHOD
from facefocus.person.other_people import Strangers
from facefocus.person.proof import Design, Judge
from facefocus.person.trials import Team

#: Fewer photos have no interval.
FEW = 5


def limits_of(
    frames: UInt8[np.ndarray, "n h w 3"],
    design: Design,
    teams: Sequence[Team],
    strangers: Strangers | None,
    method: str,
    *,
    draft: bool,
    photographs: bool,
) -> Iterator[str]:
    """What is missing, one sentence or two each."""
    if draft:
        yield (
            "A draft: a rough mask alone, without other people, parts of the face, nuisances and"
            " repair. Nothing is proven before it is run without --draft."
        )
    if not photographs:
        yield (
            "The photos are aligned crops: nothing was painted on a photograph, and no face was"
            " detected and aligned anew."
        )
    yield from _of_siblings(teams)
    yield from _of_few_photos(len(frames), design)
    yield from _of_black_boxes(teams[0].sources, method)
    judges = {judge.name: judge for team in teams for judge in team.judges}
    if all(judge.seen for team in teams for judge in team.judges):
        yield (
            "Every recognizer here was used to make the mask: nothing shows that it hides you from"
            " others. Name one that is not used with --unseen."
        )
    if draft:
        return
    yield from _of_other_people(judges, strangers)


def _of_few_photos(count: int, design: Design) -> Iterator[str]:
    """What so many photos cannot show."""
    if count == 1:
        yield (
            "One photo: it has no other photo to be compared with, so no figure here is about"
            " recognition. Similarities are to the same photo, not hidden. Give 4 photos or more."
        )
    elif not design.crossed:
        yield (
            f"With {count} photos, of which halves of two different pictures each cannot be made,"
            " your own mask cannot be tried on photos that it never saw, and is not recommended. Of"
            " the others the best on these very photos is chosen. Give 4 photos or more."
        )
    elif count < 2 * FEW:
        yield f"{count} photos are few: intervals are wide."


def _of_other_people(judges: Mapping[str, Judge], strangers: Strangers | None) -> Iterator[str]:
    """What is not known without other people, or thresholds."""
    without = [name for name, judge in judges.items() if not judge.pair]
    if without:
        yield (
            f"No threshold is known for {', '.join(without)}: only similarities are given, and"
            " whether they are a match cannot be said."
        )
    if strangers is None:
        yield (
            "No faces of other people were given: there is no false match figure, no template, no"
            " rank and no comparison with other people's masks. Prepare a set of real people"
            " ('facefocus prepare') and name it with --gallery."
        )
        return
    for name, judge in judges.items():
        if judge.strangers is None:
            kind = {"real": "real", "synthetic": "drawn"}[strangers.kind]
            yield (
                f"The people of '{strangers.title}' are {kind}, and {name} was trained on faces of"
                " the other kind: they are nobody to it. It has no template and no false match"
                " figure here."
            )
        elif len(judge.pair) < 2:
            yield f"'{strangers.title}' has too few pairs of photos for an FMR of 1e-3 on {name}."


def _of_siblings(teams: Sequence[Team]) -> Iterator[str]:
    """Recognizers that are called unseen, and are kin to one that was seen."""
    pairs = {
        (judge.name, source.name): (
            lineage(judge.name, judge.recognizer),
            lineage(source.name, source),
        )
        for team in teams
        for judge in team.judges
        if not judge.seen
        for source in team.sources
    }
    for (name, source), (judge_lineage, source_lineage) in pairs.items():
        kin = kinship(judge_lineage, source_lineage)
        if kin == NOT_STATED:
            yield (
                f"{name} never saw the mask, but may be a sibling of {source}: training data or"
                " family of one of them is not stated."
            )
        elif kin != UNSEEN:
            shared = " and ".join(shared_by(judge_lineage, source_lineage))
            yield (
                f"{name} never saw the mask, but is a sibling of {source} (they share {shared}):"
                " a mask looks stronger on it than on a recognizer of"
                " another kind."
            )


def _of_black_boxes(sources: Sequence[Recognizer], method: str) -> Iterator[str]:
    """What is said of recognizers that show no gradients."""
    boxes = " and ".join(source.name for source in sources if not is_white_box(source))
    if method == BLACK_BOX_METHOD and boxes:
        yield (
            f"{boxes} shows no gradients: the mask comes from {method}, which only hides and looks."
            " It is weaker than one that is learned."
        )
    elif boxes and method != SEARCH_METHOD:
        yield f"{boxes} shows no gradients: the own mask is learned on the other models alone."
