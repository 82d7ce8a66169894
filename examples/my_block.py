"""A section of your own on the page of a run: one file, one registration.

Import it before `write_report`; in a package, name it under the entry-point group
``facefocus.report_sections`` and every ``facefocus report`` shows it.
"""

from __future__ import annotations

import polars as pl

from facefocus.core.text import number
from facefocus.report.document import Note, Section, plain_table
from facefocus.report.report_data import Report
from facefocus.report.section_registry import section


@section("hardest-people", position=105)
def hardest_people(report: Report) -> Section | None:
    """The five identities that are recognized least with nothing hidden; None without results."""
    if report.results.is_empty():
        return None
    means = report.results.group_by("identity", "target").agg(pl.col("clean_rate").mean())
    rows = [
        (row["identity"], row["target"], number(row["clean_rate"]))
        for row in means.sort("clean_rate", "identity").head(5).to_dicts()
    ]
    table = plain_table(["Identity", "Recognizer", "Recognition"], rows, "Hardest", names=2)
    note = Note("A mask cannot take what is not there: read their drops with care.")
    return Section("hardest-people", "Who is hard to recognize anyway?", "", [table, note])
