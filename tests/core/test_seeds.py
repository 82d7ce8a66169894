from __future__ import annotations

from facefocus.core.seeds import generator


def test_a_draw_depends_on_every_part_and_nothing_else() -> None:
    first = generator(0, "ties", "Ann").integers(0, 2**62)
    assert first == generator(0, "ties", "Ann").integers(0, 2**62)
    others = [generator(1, "ties", "Ann"), generator(0, "fill", "Ann"), generator(0, "ties", "Bo")]
    assert first not in [other.integers(0, 2**62) for other in others]


def test_draws_are_the_same_on_every_machine() -> None:
    """A literal, so that a change of the derivation cannot go unnoticed: old results would lie."""
    assert generator(0, "ties", "Ann").integers(0, 1000, 4).tolist() == LITERAL


def test_parts_are_kept_apart() -> None:
    drawn = generator(0, "p", "ab", "c").integers(0, 2**62)
    assert drawn != generator(0, "p", "a", "bc").integers(0, 2**62)


LITERAL = [75, 771, 217, 739]
