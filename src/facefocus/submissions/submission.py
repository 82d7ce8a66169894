"""``facefocus submit``: one file with a run's results, without a face or a name, to be checked.

Protocol: submissions. The file is a ZIP archive. A run without variants has its files at the top,
a run with variants those of each in a folder:

- ``run.json``, ``experiment.toml``, ``provenance.json``: what was asked, and what did it;
- ``results.parquet``, ``people.parquet``, ``robustness.parquet``: all rows, under pseudonyms;
- ``methods.json``: the version of each method, or the hash of its code;
- ``masks.parquet``, ``masks.npy``: the masks of a tenth of the people.

``submission.json`` has the hash of each. The tenth is drawn by the hashes of all else, so nobody
can choose who is in it after the figures are written.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import polars as pl
from jaxtyping import UInt8

from facefocus.analysis.results import SUBMITTED
from facefocus.benchmark.collect import score_columns
from facefocus.benchmark.person_values import PERSON_VALUES
from facefocus.benchmark.result_columns import MAP
from facefocus.benchmark.run import open_run
from facefocus.benchmark.session import Session
from facefocus.benchmark.stages.robustness import ROBUSTNESS
from facefocus.benchmark.stages.score import scored_masks
from facefocus.core.errors import UserError, one_line
from facefocus.core.files import any_path, write_atomically
from facefocus.core.locations import run_folders
from facefocus.core.specs import to_toml
from facefocus.core.store import Missing
from facefocus.faces.faceset import FaceSet
from facefocus.saliency.methods import METHODS

#: Of the file: another number whenever older programs would misread it.
FORMAT = 1

#: Says what the file holds, with hashes.
CONTENTS = SUBMITTED

RUN, PROVENANCE, EXPERIMENT, METHODS_FILE = (
    "run.json", "provenance.json", "experiment.toml", "methods.json",
)  # fmt: skip

RESULTS = "results.parquet"

#: Tables with a column of identities.
TABLES = (RESULTS, PERSON_VALUES, ROBUSTNESS)

#: A row for each mask, and the masks, a row of packed bits each.
MASKS, PACKED = "masks.parquet", "masks.npy"

#: All that a file can hold of a run or of a variant.
NAMES = {RUN, PROVENANCE, EXPERIMENT, METHODS_FILE, *TABLES, MASKS, PACKED}

#: Of how many people one has their masks in the file.
ONE_IN = 10

#: The columns that say which mask one is; `mask` is its row among the packed ones.
MASK_COLUMNS: dict[str, Any] = {
    "identity": pl.String, "split": pl.String, "fold": pl.Int64,
    **dict.fromkeys(MAP, pl.String), "normalize": pl.Boolean, "arcface_scale": pl.Float64,
    "max_pairs": pl.Int64, "fill": pl.String, "reading": pl.String, "on_degenerate": pl.String,
    "control": pl.String, "map_draw": pl.Int64, "control_draw": pl.Int64, "budget": pl.Float64,
    "mask": pl.Int64,
}  # fmt: skip

#: Bytes that a file may unpack to: nobody's memory is filled by a file of somebody else.
MOST = 8 << 30


@dataclass(frozen=True)
class Submission:
    """A file of results, read whole.

    Attributes:
        contents: What ``submission.json`` says.
        files: All others, by name.
    """

    contents: Mapping[str, Any]
    files: Mapping[str, bytes]

    @property
    def parts(self) -> list[str]:
        """What stands before the names of each run's files: nothing, or a variant's folder."""
        return sorted({name[: -len(RUN)] for name in self.files if name.endswith(RUN)})

    def table(self, name: str) -> pl.DataFrame:
        """One of its tables.

        Raises:
            UserError: It is not there, or cannot be read.
        """
        try:
            return pl.read_parquet(self.files[name])
        except (KeyError, OSError, pl.exceptions.PolarsError) as error:
            raise UserError(f"The '{name}' of the submission cannot be read.") from error

    def plain(self, name: str) -> dict[str, Any]:
        """One of its JSON files.

        Raises:
            UserError: It is not there, or cannot be read.
        """
        try:
            content = json.loads(self.files[name])
        except (KeyError, ValueError) as error:
            raise UserError(f"The '{name}' of the submission cannot be read.") from error
        if not isinstance(content, dict):
            raise UserError(f"The '{name}' of the submission must be a JSON object.")
        return content

    def recognizers(self, part: str) -> dict[str, dict[str, Any]]:
        """What the provenance of a run says of each recognizer.

        Raises:
            UserError: It says nothing that can be read.
        """
        recognizers = self.plain(part + PROVENANCE).get("recognizers")
        if not isinstance(recognizers, dict) or not all(
            isinstance(x, dict) for x in recognizers.values()
        ):
            raise UserError(f"The '{part}{PROVENANCE}' of the submission must name recognizers.")
        return recognizers

    def experiment(self, part: str) -> dict[str, Any]:
        """The experiment of a run as plain data, people under their pseudonyms.

        Raises:
            UserError: It cannot be read.
        """
        experiment = self.plain(part + RUN).get("experiment")
        tables = ("faces", "recognizers", "evaluation")
        if not isinstance(experiment, dict) or not all(
            isinstance(experiment.get(x), dict) for x in tables
        ):
            raise UserError(f"The '{part}{RUN}' of the submission must hold an 'experiment'.")
        return experiment

    def masks(self, part: str) -> UInt8[np.ndarray, "masks bytes"]:
        """The packed masks of a run.

        Raises:
            UserError: They are not there, or cannot be read.
        """
        try:
            packed: np.ndarray = np.load(io.BytesIO(self.files[part + PACKED]), allow_pickle=False)
        except (KeyError, OSError, ValueError, EOFError) as error:
            raise UserError(f"The '{part}{PACKED}' of the submission cannot be read.") from error
        if packed.dtype != np.uint8 or packed.ndim != 2:
            raise UserError(f"The '{part}{PACKED}' of the submission must hold packed bits.")
        return packed


def pseudonyms(faces: FaceSet, people: Collection[str] | None = None) -> dict[str, str]:
    """A pseudonym for each person of a face set: a hash of all their aligned crops.

    Who has the same face set finds the same ones; nobody finds a person without their photos.

    Args:
        faces: The face set.
        people: Whose; everybody's by default.
    """
    order = np.argsort(faces.identities, kind="stable")
    names, starts = np.unique(faces.identities[order], return_index=True)
    pseudonym_of = {}
    for name, rows in zip(names.tolist(), np.split(order, starts[1:]), strict=True):
        if people is None or name in people:
            digest = hashlib.sha256(b"facefocus person\0")
            for row in rows:
                digest.update(np.ascontiguousarray(faces.frames[row]).tobytes())
            pseudonym_of[name] = digest.hexdigest()[:16]
    return pseudonym_of


def hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    """The sha256 (hex) of each file."""
    return {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}


def drawn_people(people: Collection[str], known: Mapping[str, str]) -> list[str]:
    """The pseudonyms whose masks go into a file: a tenth, and at least one.

    Args:
        people: All pseudonyms.
        known: `hashes` of all files but the masks'.

    Example:
        >>> drawn_people(["ab", "cd", "ef"], {"results.parquet": "01"})
        ['cd']
    """
    text = json.dumps({name: known[name] for name in sorted(known) if not _of_masks(name)})

    def draw_key(pseudonym: str) -> str:
        return hashlib.sha256(f"{text}\0{pseudonym}".encode()).hexdigest()

    return sorted(sorted(set(people), key=draw_key)[: -(-len(set(people)) // ONE_IN)])


def _of_masks(name: str) -> bool:
    return PurePosixPath(name).name in (MASKS, PACKED)


@any_path
def write_submission(run: Path, out: Path | None = None) -> Path:
    """Write the results of a finished run to one file; returns its path.

    Args:
        run: A run folder, also one with variants.
        out: The file; ``RUN.submission`` beside the folder by default.

    Raises:
        UserError: The run is not finished, its face set or its masks are gone, or the file cannot
            be written.
    """
    # Not `with_suffix`: names of runs may hold dots.
    out = out or run.resolve().parent / f"{run.resolve().name}.submission"
    files: dict[str, bytes] = {}
    sessions: dict[str, tuple[Session, dict[str, str]]] = {}
    for folder in run_folders(run):
        part = "" if folder == run else f"{folder.name}/"
        if not (folder / RESULTS).is_file():
            raise UserError(f"'{folder}' has no {RESULTS}; run 'facefocus run' first.")
        session = open_run(folder)
        names = pseudonyms(session.faces, set(pl.read_parquet(folder / RESULTS)["identity"]))
        sessions[part] = session, names
        files |= {f"{part}{name}": data for name, data in _files_of(folder, session, names)}
    drawn = drawn_people([name for _, names in sessions.values() for name in names.values()],
                         hashes(files))  # fmt: skip
    for part, (session, names) in sessions.items():
        people = {name for name, pseudonym in names.items() if pseudonym in drawn}
        try:
            rows, packed = masks_of(session, people, names)
        except Missing:
            raise UserError(
                f"The store has lost masks of '{run}'. Make them again with 'facefocus run', then"
                " submit."
            ) from None
        buffer = io.BytesIO()
        np.save(buffer, packed, allow_pickle=False)
        files |= {part + MASKS: _parquet(rows), part + PACKED: buffer.getvalue()}
    contents = {"format": FORMAT, "name": run.resolve().name, "people": drawn}
    contents["files"] = hashes(files)
    write_atomically(out, lambda target: target.write(_archive(files, contents)))
    return out


def _files_of(
    folder: Path, session: Session, names: Mapping[str, str]
) -> Iterator[tuple[str, bytes]]:
    asked = json.loads((folder / RUN).read_bytes())
    experiment = asked["experiment"]
    if experiment["faces"].get("people"):
        experiment["faces"]["people"] = sorted(
            names[name] for name in experiment["faces"]["people"] if name in names
        )
    # Nothing of where its files lie: that is of the user's machine alone.
    about = {name: asked[name] for name in ("experiment", "backend", "batches") if name in asked}
    yield RUN, _json(about | {"frame": list(session.frame)})
    yield EXPERIMENT, to_toml(_stated(experiment)).encode()
    yield PROVENANCE, (folder / PROVENANCE).read_bytes()
    used = [name for entry in session.experiment.saliency for name in entry.method]
    recorded = [name for entry in experiment["saliency"] for name in entry.get("method") or ()]
    versions = {
        stated: str(METHODS[name].version) for stated, name in zip(recorded, used, strict=True)
    }
    yield METHODS_FILE, _json(versions)
    for name in TABLES:
        if (folder / name).is_file():
            table = pl.read_parquet((folder / name).read_bytes())
            known = pl.col("identity").replace_strict(names, default=None)
            table = table.with_columns(identity=known).drop_nulls("identity")
            # By pseudonym: the order of names would tell about them.
            yield name, _parquet(table.sort(table.columns, nulls_last=True))


def masks_of(
    session: Session, people: Collection[str], names: Mapping[str, str]
) -> tuple[pl.DataFrame, UInt8[np.ndarray, "masks bytes"]]:
    """All masks of some people that were scored, each once.

    Args:
        session: Of a finished run.
        people: Whose.
        names: Pseudonyms by name.

    Returns:
        Rows of `MASK_COLUMNS`, and the packed masks.

    Raises:
        Missing: The store lacks one.
    """
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    masks: dict[bytes, int] = {}
    shape = session.experiment.occlusion.shape
    for (_, index), outputs in session.plan.planned["scores"].items():
        block = session.plan.blocks[index]
        wanted = [position for position, person in enumerate(block.people) if person.name in people]
        for output in outputs if wanted else ():
            scores = session.store.load(output.key)
            columns = score_columns(output, shape)
            for position, (number, budget) in _product(wanted, output.budgets):
                if np.isnan(scores["area"][position, number]):
                    continue  # left out: nothing was tried
                row = {"identity": names[block.people[position].name], "split": block.split}
                row |= {"fold": block.fold, **columns, "map_draw": output.maps.spec.draw}
                row |= {"control_draw": output.draw, "budget": budget}
                # The same on every target.
                packed = _packed(session, scores, position, number)
                row["mask"] = masks.setdefault(packed, len(masks))
                rows.setdefault(tuple(value for key, value in row.items() if key != "mask"), row)
    table = pl.DataFrame(list(rows.values()), schema=MASK_COLUMNS, orient="row")
    length = -(-session.frame[0] * session.frame[1] // 8)
    return table, np.frombuffer(b"".join(masks), np.uint8).reshape(-1, length)


def _product(positions: Sequence[int], budgets: Sequence[float]) -> Iterator[tuple[int, Any]]:
    return ((position, numbered) for position in positions for numbered in enumerate(budgets))


def _packed(
    session: Session, scores: Mapping[str, np.ndarray], position: int, number: int
) -> bytes:
    return np.packbits(scored_masks(session, dict(scores))[position, number]).tobytes()


def _stated(value: Any) -> Any:
    """Plain data without what is left open: TOML has no null."""
    if isinstance(value, dict):
        return {key: _stated(entry) for key, entry in value.items() if entry is not None}
    return [_stated(entry) for entry in value] if isinstance(value, list) else value


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _parquet(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer, statistics=False)
    return buffer.getvalue()


def _archive(files: Mapping[str, bytes], contents: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in [(CONTENTS, _json(contents)), *sorted(files.items())]:
            # No date: the same run gives the same bytes.
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


@any_path
def read_submission(path: Path) -> Submission:
    """A file of results; nothing of it is trusted.

    Raises:
        UserError: It cannot be read, is no such file, or of another format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            known = [member for member in archive.infolist() if _known(member.filename)]
            size = sum(member.file_size for member in known)
            if size > MOST:
                raise UserError(f"'{path}' would unpack to {size >> 30} GiB: it is not read.")
            files = {member.filename: archive.read(member) for member in known}
            strange = len(archive.infolist()) != len(files)
        contents = json.loads(files.pop(CONTENTS))
        version = contents["format"]
    except OSError as error:
        raise UserError(f"'{path}' cannot be read: {one_line(error)}.") from error
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise UserError(f"'{path}' is no submission. Make one: facefocus submit RUN.") from error
    if version != FORMAT:
        raise UserError(f"The 'format' of '{path}' must be {FORMAT}. Got {version!r}.")
    if strange:
        raise UserError(f"'{path}' holds files that no submission has, or two of one name.")
    return Submission(contents, files)


def _known(name: str) -> bool:
    path = PurePosixPath(name)
    plain = len(path.parts) <= 2 and ".." not in path.parts and not path.is_absolute()
    return name == CONTENTS or (plain and path.name in NAMES)


@contextmanager
def run_folders_of(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Run folders as they are, and for each submission among them a folder that goes in the end.

    It has what a page reads: all but the masks.

    Raises:
        UserError: A file cannot be read, or is no submission.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folders = []
        for number, path in enumerate(paths):
            if path.is_file():
                folder = Path(scratch) / str(number) / path.name
                submission = read_submission(path)
                contents = {CONTENTS: _json(submission.contents)}
                for name, data in {**submission.files, **contents}.items():
                    if not _of_masks(name):
                        write_atomically(folder / name, partial(_write, data=data))
                folders.append(folder)
            else:
                folders.append(path)
        yield folders


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)
