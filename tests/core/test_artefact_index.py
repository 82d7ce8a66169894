"""Where each artefact of a store is, also of one with very many."""

from __future__ import annotations

import numpy as np

from facefocus.core.artefact_files import ROW
from facefocus.core.artefact_index import ArtefactIndex, Part
from facefocus.core.store import content_key


def test_more_artefacts_than_are_kept_apart_are_found_and_forgotten() -> None:
    """Some keys end in zero bytes, which numpy's texts leave out."""
    keys = [content_key("test", number=number) for number in range(9_998)]
    keys += ["00" * 32, "01" * 31 + "00"]
    rows = np.zeros(len(keys), ROW)
    rows["key"] = [np.void(bytes.fromhex(key)) for key in keys]
    rows["length"] = np.arange(len(keys)) + 1
    index = ArtefactIndex()
    index.add([("first.pack", rows[:6_000]), ("second.pack", rows[6_000:])])
    starts = [*(np.cumsum(rows["length"][:6_000]) - rows["length"][:6_000])]
    starts += [*(np.cumsum(rows["length"][6_000:]) - rows["length"][6_000:])]
    for number in (0, 5_999, 6_000, 9_997, 9_998, 9_999):
        file = "first.pack" if number < 6_000 else "second.pack"
        assert index.find(keys[number]) == Part(file, starts[number], number + 1)
    assert index.find("ff" * 32) is None
    assert index.held([*keys[:3], "ff" * 32]) == set(keys[:3])
    assert list(index) == sorted(keys)
    assert index.artefacts_and_bytes() == (10_000, 10_000 * 10_001 // 2)
    index.forget("second.pack")
    assert index.find(keys[6_000]) is None
    assert index.find(keys[0]) is not None
    assert len(list(index)) == 6_000
    assert index.held(keys) == set(keys[:6_000])
    index.add([("third.pack", rows[9_998:])])  # so few are kept apart
    assert index.held(keys) == {*keys[:6_000], *keys[9_998:]}
