"""Weights files of the user: checked, and copied into the cache."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from facefocus.core import locations
from facefocus.core.errors import UserError, did_you_mean
from facefocus.core.files import write_atomically
from facefocus.models import zoo
from facefocus.models.lineage import Lineage
from facefocus.models.preprocessing import from_mapping
from facefocus.models.user_code import sha256
from facefocus.models.zoo import NETWORKS, OWN, PLUGINS, Entry


def add_weights(
    name: str,
    file: Path,
    *,
    architecture: str | None = None,
    preprocessing: Mapping[str, object] | None = None,
    lineage: Lineage | None = None,
    force: bool = False,
) -> tuple[Path, tuple[str, ...]]:
    """Check a weights file that the user has, and copy it into the user's cache.

    Args:
        name: A recognizer of the zoo, or a new name: letters, digits, ``-`` and ``_``.
        file: Its weights.
        architecture: For a new name: a name in `NETWORKS`, or a recognizer that has the network.
        preprocessing: For a new name: what differs from the architecture's usual preprocessing, as
            in TOML.
        lineage: For a new name: where its weights come from. The family is the architecture's.
        force: Whether another file that is there already may be replaced.

    Returns:
        The copy, and lines to show: the license, and what was left out on loading.

    Raises:
        UserError: Unknown name or architecture, or a file that does not fit or is not the expected
            one, or another one is there.
    """
    if not file.is_file():
        raise UserError(f"The weights '{file}' do not exist.")
    known = {
        *zoo.packaged(),
        *(alias for entry in zoo.packaged().values() for alias in entry.aliases),
    }
    if name in known:
        if (architecture, preprocessing, lineage) != (None, None, None):
            raise UserError(
                f"The network, the preprocessing and the training of '{name}' are known. For other "
                "weights take a name of your own."
            )
        entry = zoo.describe(name)
        if entry.embedded:
            raise UserError(f"The weights of '{name}' are part of the package: none can be added.")
    else:
        entry = _own_entry(name, file, architecture, preprocessing, lineage or Lineage())
    notes = _verify(name, entry, file)
    path = locations.cache_dir() / "models" / entry.file
    if path.is_file() and not force and not _same(entry, path, file):
        raise UserError(f"'{name}' has other weights already: '{path}'. Replace them by --force.")
    with file.open("rb") as source:
        write_atomically(path, lambda target: shutil.copyfileobj(source, target))
    if entry.file.startswith(f"{OWN}/"):
        record = entry.model_dump_json(indent=2).encode()
        write_atomically(path.with_suffix(".json"), lambda target: target.write(record))
    return path, (entry.terms, *notes)


def check_file(name: str, path: Path) -> tuple[str, ...]:
    """Notes on loading a file as the weights of a recognizer of the zoo.

    Raises:
        UserError: It does not fit, or is not the published one.
    """
    return _verify(name, zoo.describe(name), path)


def _own_entry(
    name: str,
    file: Path,
    architecture: str | None,
    preprocessing: Mapping[str, object] | None,
    lineage: Lineage,
) -> Entry:
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name) or name in PLUGINS:
        raise UserError(
            f"The name of a recognizer must be new, of letters, digits, - and _. Got '{name}'."
        )
    if architecture is None:
        raise zoo.weights_alone(file, name)
    known = [*NETWORKS, *zoo.entries()]
    if architecture not in known:
        raise UserError(
            f"The 'architecture' must be one of {', '.join(NETWORKS)}, or a recognizer that has it."
            f" Got '{architecture}'.{did_you_mean(architecture, known)}"
        )
    alike = zoo.describe(NETWORKS.get(architecture, architecture))
    if alike.black_box:
        raise UserError(f"The 'architecture' must be a network. Got '{architecture}', a black box.")
    reading = {**alike.preprocessing, **(preprocessing or {})}
    from_mapping(reading, where=f"recognizer '{name}'")
    return Entry(
        title=f"{name}, from {file.name}",
        architecture=alike.architecture,
        options=alike.options,
        preprocessing=reading,
        training=lineage.training,
        data=lineage.data,
        family=alike.family,
        loss=lineage.loss,
        year=lineage.year,
        source="a file of the user",
        license="not stated",
        commercial="unknown",
        file=f"{OWN}/{name}.weights",
    )


def _verify(name: str, entry: Entry, path: Path) -> tuple[str, ...]:
    """Notes on loading `path` as the entry's weights; raises if it is another file."""
    notes = () if entry.black_box else zoo.loaded_network(entry, path)[1]
    if entry.sha256 is not None and sha256(path) != entry.sha256:
        own = f" Under a name of your own: facefocus models add mine {path} --architecture {name}."
        own = "" if entry.black_box else own
        raise UserError(
            f"The file '{path}' is not the published file of {entry.title}: its sha256 must be "
            f"{entry.sha256}, got {sha256(path)}.{own}"
        )
    return notes


def _same(entry: Entry, file: Path, other_file: Path) -> bool:
    """Whether two files hold the same weights, in any file format."""
    if sha256(file) == sha256(other_file):
        return True
    if entry.black_box:
        return False
    try:
        first, second = (
            zoo.loaded_network(entry, path)[0].state_dict() for path in (file, other_file)
        )
    except UserError:
        return False
    return all(torch.equal(value, second[key]) for key, value in first.items())
