"""The recognizers known by name: what they are, how to get them, and how to load them.

Every fact about them is in ``zoo.toml`` beside this file, checked on reading.
"""

from __future__ import annotations

import shutil
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, cast

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from facefocus import locations
from facefocus.errors import UserError, did_you_mean
from facefocus.models.custom import load_factory, load_program, sha256
from facefocus.models.download import download
from facefocus.models.layers import LayerTable, trace_layers
from facefocus.models.onnx import CONVERTED, OnnxRecognizer, load_converted
from facefocus.models.preprocessing import Preprocessing, from_mapping, read_beside
from facefocus.models.recognizer import Recognizer, TorchRecognizer, white_box
from facefocus.models.weights import SUFFIXES, load_into, read_weights
from facefocus.progress import Progress, silent
from facefocus.registry import Registry

#: Makers of networks, by name; other packages add theirs in ``facefocus.architectures``.
ARCHITECTURES: Registry[Callable[..., nn.Module]] = Registry("architecture")
ARCHITECTURES.add("mobilefacenet", "facefocus.models.mobilefacenet:MobileFaceNet")
ARCHITECTURES.add("squeezenet", "facefocus.models.squeezenet:SqueezeNet")
ARCHITECTURES.add("iresnet", "facefocus.models.iresnet:IResNet")
ARCHITECTURES.add("inception_resnet_v1", "facefocus.models.inception_resnet:InceptionResnetV1")

#: Recognizers of other packages: their entry points in ``facefocus.recognizers``, each a
#: recognizer or a function without arguments that makes one.
PLUGINS: Registry[Callable[[], Recognizer] | Recognizer] = Registry("recognizer")

#: Weights that are part of the package lie below.
_PACKAGED = Path(__file__).parent

#: A value of an architecture's option, as TOML can hold it.
Option = bool | int | float | str | list[int]


class Entry(BaseModel):
    """One recognizer of the zoo.

    Attributes:
        title: One line for people.
        architecture: Name in `ARCHITECTURES`.
        options: Keyword arguments of the architecture.
        preprocessing: As for `preprocessing.from_mapping`.
        training: Data it was trained on.
        data: Whether that data shows real people.
        source: Where it comes from.
        license: Of the weights.
        commercial: Whether that license allows commercial use.
        file: Path of the weights file under ``models/``; those in ``embedded/`` are part of the
            package, each with a card of the same name.
        sha256: Of the file, where it is known; any other file is refused.
        mirror_sha256: Of a mirror's copy: a difference is reported, not refused.
        accuracy: Published or measured figures.
        aliases: Other names, such as the paper's.
        url: Direct link to the file.
        page: Page to get the file from by hand, where there is no direct link.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    title: str
    architecture: str
    options: dict[str, Option]
    preprocessing: dict[str, object]
    training: str
    data: Literal["real", "synthetic"]
    source: str
    license: str
    commercial: Literal["yes", "no", "unknown"]
    file: str
    sha256: str | None = None
    mirror_sha256: str | None = None
    accuracy: str = ""
    aliases: list[str] = []
    url: str | None = None
    page: str | None = None

    def build(self) -> nn.Module:
        """The network with its options, on the default device, weights as initialized."""
        options = {
            # TOML has no tuples; the architectures take pairs as tuples.
            name: tuple(value) if isinstance(value, list) else value
            for name, value in self.options.items()
        }
        return ARCHITECTURES[self.architecture](**options)

    def reader(self) -> Preprocessing:
        """How the recognizer reads a frame."""
        return from_mapping(self.preprocessing)

    @property
    def embedded(self) -> bool:
        """Whether the package brings the weights."""
        return self.file.startswith("embedded/")

    def present(self) -> Path | None:
        """The weights file where there is one here."""
        if self.embedded:
            candidates = iter([_PACKAGED / self.file])
        else:
            candidates = (root / "models" / self.file for root in locations.search_dirs())
        return next((path for path in candidates if path.is_file()), None)

    @property
    def terms(self) -> str:
        """One line on what the license allows."""
        commercial = {
            "yes": "Commercial use is allowed.",
            "no": "Commercial use is NOT allowed.",
            "unknown": "Whether commercial use is allowed is not known.",
        }
        return f"{self.title}: {self.license}. {commercial[self.commercial]}"

    @property
    def identity(self) -> str:
        """Architecture and options, as part of the fingerprint."""
        options = ", ".join(f"{name}={self.options[name]}" for name in sorted(self.options))
        return f"{self.architecture}({options})"


@cache
def entries() -> Mapping[str, Entry]:
    """Every recognizer of the zoo, by name."""
    return read_entries((files("facefocus.models") / "zoo.toml").read_text("utf-8"))


def read_entries(text: str) -> dict[str, Entry]:
    """Entries of a zoo in TOML.

    Raises:
        UserError: A field is missing, unknown or wrong; names the entry.
    """
    found = {}
    for name, values in tomllib.loads(text).items():
        try:
            found[name] = Entry.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise UserError(f"The '{field}' of recognizer '{name}': {first['msg']}.") from error
    return found


def names() -> list[str]:
    """Names of every recognizer of the zoo, in the order of ``zoo.toml``."""
    return list(entries())


def embedded() -> list[str]:
    """Names of the recognizers whose weights the package brings."""
    return [name for name, entry in entries().items() if entry.embedded]


def card(name: str) -> Path:
    """The card of an embedded recognizer: how it was trained, and how good it is.

    Raises:
        UserError: No such recognizer, or not an embedded one; names those.
    """
    entry = describe(name)
    if not entry.embedded:
        raise UserError(
            f"The recognizer must be one of {', '.join(embedded())}. Got '{name}', which has no "
            "card." + did_you_mean(name, embedded())
        )
    return (_PACKAGED / entry.file).with_suffix(".toml")


def full_name(name: str) -> str:
    """The zoo's own name for a name or an alias.

    Raises:
        UserError: No such recognizer; suggests the nearest one.
    """
    known = entries()
    aliases = {alias: own for own, entry in known.items() for alias in entry.aliases}
    if name in known:
        return name
    if name in aliases:
        return aliases[name]
    every = [*known, *aliases, *PLUGINS]
    raise UserError(
        f"No recognizer is called '{name}'. Known: {', '.join(every)}; or a file .onnx, .pt2 or "
        f"FILE.py:FUNCTION.{_nearest(name, every)}"
    )


def describe(name: str) -> Entry:
    """The entry called `name`, or that has this alias.

    Raises:
        UserError: No such entry; suggests the nearest one.
    """
    return entries()[full_name(name)]


def load(
    name: str, preprocessing: Preprocessing | Mapping[str, object] | None = None
) -> Recognizer:
    """A recognizer by its name in the zoo, its entry point, or its file.

    Args:
        name: Name or alias of the zoo; name of an entry point; path of an ``.onnx`` model (black
            box; ``onnx2torch:FILE.onnx`` for a white one) or of a ``.pt2`` program of
            torch.export; or ``file.py:function``.
        preprocessing: How a recognizer from a file reads frames, as an object or as in TOML; by
            default ``x.toml`` beside ``x.onnx`` or ``x.pt2``. The zoo knows it for its own.

    Raises:
        UserError: Unknown name, no such file, or a file that does not fit.
    """
    name = locations.expanded(name)
    reader = from_mapping(preprocessing) if isinstance(preprocessing, Mapping) else preprocessing
    if name.startswith(CONVERTED):
        path = Path(name.removeprefix(CONVERTED))
        return load_converted(path, reader or read_beside(path))
    suffix = Path(name).suffix
    if suffix in (".onnx", ".pt2") and reader is None:
        reader = read_beside(Path(name))
    if suffix == ".onnx":
        return OnnxRecognizer(Path(name), reader)
    if suffix == ".pt2":
        return load_program(Path(name), reader)
    if ".py:" in name:
        return load_factory(name, reader)
    if suffix in SUFFIXES:
        raise UserError(
            f"The file '{name}' holds weights only. Name the recognizer they belong to: "
            f"facefocus models add NAME {name}."
        )
    if reader is not None:
        raise UserError(f"The preprocessing of '{name}' is its own and cannot be given.")
    if name in PLUGINS:
        plugin = PLUGINS[name]
        # A class has the attributes of a recognizer too, but is none yet.
        made = isinstance(plugin, Recognizer) and not isinstance(plugin, type)
        return cast(Recognizer, plugin if made else cast(Callable[[], Recognizer], plugin)())
    return _load_entry(full_name(name))


def fetch(
    name: str, *, confirm: Callable[[str], bool], progress: Progress = silent
) -> tuple[Path | None, tuple[str, ...]]:
    """Download a recognizer's weights into the user's cache, or say how to get them by hand.

    Args:
        name: Name or alias.
        confirm: Shown the license before anything is fetched, unless it allows commercial use;
            False stops.
        progress: Told of the bytes.

    Returns:
        The file, or None where it must be got by hand; and lines to show.

    Raises:
        UserError: Unknown name, license not accepted, or a download that fails or does not fit.
    """
    own = full_name(name)
    entry = entries()[own]
    present = entry.present()
    if present is not None:
        return present, (f"'{own}' is here already: {present}.",)
    if entry.url is None:
        return None, _by_hand(own, entry)
    if entry.commercial != "yes" and not confirm(entry.terms):
        raise UserError(f"'{own}' was not fetched: its license was not accepted.")
    path = _cached(entry)
    download(entry.url, path, sha256=entry.sha256, progress=progress)
    try:
        notes = _verify(entry, path)
    except UserError:
        path.unlink()
        raise
    return path, (*notes, *_against_mirror(entry, path))


def add(name: str, file: Path) -> tuple[Path, tuple[str, ...]]:
    """Check a weights file that the user has, and copy it into the user's cache.

    Returns:
        The copy, and lines to show: the license, and what was left out on loading.

    Raises:
        UserError: Unknown name, or a file that does not fit or is not the expected one.
    """
    entry = describe(name)
    notes = _verify(entry, file)
    path = _cached(entry)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as target:
        temporary = Path(target.name)
    try:
        shutil.copyfile(file, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path, (entry.terms, *notes, *_against_mirror(entry, path))


def layers(name: str) -> LayerTable:
    """The layers of a recognizer; those of the zoo need no weights for it.

    Raises:
        UserError: No such recognizer, or a black box.
    """
    if Path(name).suffix or name in PLUGINS:
        return white_box(load(name), "the table of layers").layers()
    entry = describe(name)
    reader = entry.reader()
    with torch.device("meta"):
        module = entry.build()
    return trace_layers(module, (1 if reader.channels == "gray" else 3, *reader.size))


def catalog() -> dict[str, Callable[[], nn.Module]]:
    """Makers of every network of the zoo, by the names of the recognizers that use it."""
    shared: dict[str, list[str]] = {}
    makers: dict[str, Callable[[], nn.Module]] = {}
    for name, entry in entries().items():
        shared.setdefault(entry.identity, []).append(name)
        makers.setdefault(entry.identity, entry.build)
    return {"/".join(users): makers[identity] for identity, users in shared.items()}


def uninitialized(make: Callable[[], nn.Module]) -> nn.Module:
    """A network on the CPU with memory for its weights but no values.

    Saves the time, and the draws from torch's global generator, of an initialization that is
    overwritten at once.
    """
    with torch.device("meta"):
        module = make()
    return module.to_empty(device="cpu")


def _load_entry(name: str) -> TorchRecognizer:
    entry = entries()[name]
    path = entry.present() or locations.find(
        f"models/{entry.file}",
        f"The weights of '{name}'",
        f"Get them by: facefocus models fetch {name}.",
    )
    module = uninitialized(entry.build)
    load_into(module, read_weights(path), architecture=entry.identity, catalog=catalog())
    module.eval().requires_grad_(False)
    return TorchRecognizer(name, module, entry.reader(), identity=entry.identity)


def _verify(entry: Entry, path: Path) -> tuple[str, ...]:
    """Notes on loading `path` as the entry's weights; raises if it is another file."""
    weights = read_weights(path)
    module = uninitialized(entry.build)
    notes = load_into(module, weights, architecture=entry.identity, catalog=catalog())
    if entry.sha256 is not None and sha256(path) != entry.sha256:
        raise UserError(
            f"The file '{path}' fits {entry.title} but is not its published file: its sha256 is "
            f"not {entry.sha256}."
        )
    return notes


def _against_mirror(entry: Entry, path: Path) -> tuple[str, ...]:
    if entry.mirror_sha256 is None or sha256(path) == entry.mirror_sha256:
        return ()
    return (f"Its sha256 differs from a mirror's copy ({entry.mirror_sha256}).",)


def _by_hand(name: str, entry: Entry) -> tuple[str, ...]:
    place = f"Open {entry.page} and get" if entry.page else f"Source: {entry.source}. Get"
    return (
        entry.terms,
        "There is no direct link to these weights.",
        f"{place} {entry.file}.",
        f"Then run: facefocus models add {name} FILE",
    )


def _cached(entry: Entry) -> Path:
    return locations.cache_dir() / "models" / entry.file


def _nearest(name: str, known: list[str]) -> str:
    # Aliases are upper case, and did_you_mean looks for lower case.
    same = [word for word in known if word.lower() == name.lower().replace("-", "_")]
    return f" Did you mean '{same[0]}'?" if same else did_you_mean(name, known)
