"""Whether the figures of several runs may be compared: what they have in common, and what not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from facefocus.core.text import NOTHING
from facefocus.report.report_data import Report


def _unique(column: str) -> Callable[[Report], str]:
    def values(report: Report) -> str:
        unique = report.results[column].unique().sort().to_list()
        return ", ".join(NOTHING if value is None else str(value) for value in unique)

    return values


def _records(report: Report) -> list[Mapping[str, Any]]:
    """The provenance of the run, or of each of its variants."""
    record = report.provenance
    parts = [part for part in record.values() if isinstance(part, Mapping) and "faces" in part]
    return parts if parts and "faces" not in record else [record]


def _images(report: Report) -> str:
    faces = [record.get("faces") for record in _records(report)]
    known = [entry for entry in faces if isinstance(entry, Mapping) and entry.get("hash")]
    if len(known) < len(faces):
        return ""
    people = f"{report.results['identity'].n_unique()} people"
    sets = dict.fromkeys(f"{entry['title']} {str(entry['hash'])[:8]}" for entry in known)
    return ", ".join([*sets, people])


def _versions(report: Report) -> str:
    records = _records(report)
    names = ("facefocus", "backend")
    versions = [str(record.get(name, report.provenance.get(name, ""))) for record in records
                for name in names]  # fmt: skip
    return " ".join(dict.fromkeys(filter(None, versions)))


def _weights(report: Report) -> str:
    fingerprints: dict[str, str] = {}
    for record in _records(report):
        known = record.get("recognizers")
        items = known.items() if isinstance(known, Mapping) else ()
        fingerprints |= {name: str(entry.get("fingerprint", ""))[:8] for name, entry in items}
    return ", ".join(f"{name} {mark}" for name, mark in sorted(fingerprints.items()))


#: What must be equal, how it is read, and what may not be compared where it differs.
_FIELDS = (
    ("threshold rule", _unique("threshold_rule"), "rates and drops of different rules"),
    ("images", _images, "rates of different people or photos"),
    ("recognizers and weights", _weights, "different recognizers: their rows stand apart"),
    ("what is compared", _unique("compare"), "hidden-to-clean with hidden-to-hidden pairs"),
    ("versions", _versions, "last digits; see the provenance"),
)


def comparability(reports: Sequence[Report]) -> list[tuple[bool, str, str]]:
    """For each condition whether all runs share it, its name, and a sentence.

    Args:
        reports: Of at least two runs.
    """
    conditions = []
    for name, read, what in _FIELDS:
        values = {report.name: read(report) for report in reports}
        unknown = [run for run, value in values.items() if not value]
        if unknown:
            text = f"Not recorded by {', '.join(unknown)}: whether it is the same is not known."
        elif len(set(values.values())) == 1:
            text = f"The same in all runs: {next(iter(values.values()))}."
        else:
            listed = "; ".join(f"{run}: {value}" for run, value in values.items())
            text = f"Not the same: {listed}. Do not compare {what}."
        conditions.append((not unknown and len(set(values.values())) == 1, name, text))
    return conditions
