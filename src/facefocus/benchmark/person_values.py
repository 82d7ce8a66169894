"""Pose and quality of each person's photos, so that results can be told by them without faces."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from facefocus.core.errors import UserError, one_line
from facefocus.evaluation.strata import photo_values
from facefocus.faces.faceset import read_index

if TYPE_CHECKING:
    from facefocus.benchmark.session import Session

#: The file of a run folder: a row for each person.
PERSON_VALUES = "people.parquet"


def person_values(session: Session) -> pl.DataFrame:
    """Means over each person's photos (Protocol: strata), and how many photos there are.

    Returns:
        Columns ``faces``, ``identity``, ``images``, and those of `photo_values`; what the face set
        does not hold is no column.
    """
    faces, people = session.faces, session.plan.people
    index = [] if faces.folder is None else read_index(faces.folder)
    columns = photo_values(faces, index, np.concatenate([person.rows for person in people]))
    ends = np.cumsum([len(person.rows) for person in people])
    return pl.DataFrame(
        {
            "faces": [faces.title] * len(people),
            "identity": [person.name for person in people],
            "images": [len(person.rows) for person in people],
            **{
                name: [float(part.mean()) for part in np.split(values, ends[:-1])]
                for name, values in columns.items()
            },
        }
    )


def read_person_values(runs: Iterable[Path]) -> pl.DataFrame | None:
    """The values of the people of some run folders; None where none of them holds any.

    Raises:
        UserError: A file cannot be read.
    """
    tables = []
    for file in (run / PERSON_VALUES for run in runs):
        try:
            tables += [pl.read_parquet(file.read_bytes())] if file.is_file() else []
        except (OSError, pl.exceptions.PolarsError) as error:
            raise UserError(f"'{file}' cannot be read: {one_line(error)}.") from error
    if not tables:
        return None
    every = pl.concat(tables, how="diagonal")
    return every.unique(["faces", "identity"], keep="first", maintain_order=True)
