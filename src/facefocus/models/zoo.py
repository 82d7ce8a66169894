"""The recognizers known by name: description, source and loading.

Every fact about them is in ``zoo.toml`` beside this file, checked on reading.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, cast

import torch
from pydantic import ConfigDict, Field
from torch import nn

from facefocus.core import locations
from facefocus.core.download import RemoteFile
from facefocus.core.errors import UserError, blaming_own_code, did_you_mean
from facefocus.core.registry import Registry
from facefocus.core.specs import Spec, parse
from facefocus.models.foreign import foreign
from facefocus.models.layers import LayerTable, trace_layers
from facefocus.models.lineage import NOT_STATED, Kind, Lineage
from facefocus.models.onnx import OnnxRecognizer, as_white_box
from facefocus.models.openvino import OpenVinoRecognizer, missing_package
from facefocus.models.preprocessing import (
    Preprocessing,
    from_mapping,
    own_reading,
)
from facefocus.models.recognizer import Recognizer, TorchRecognizer, is_recognizer, white_box
from facefocus.models.score_only import (
    ScoreRecognizer,
    Similarity,
    compares_two,
    from_function,
)
from facefocus.models.sources import SOURCES, load_from_source, source_of
from facefocus.models.weights import fitting, is_weights, load_into, read_weights

#: Makers of networks, by name; other packages add theirs in ``facefocus.architectures``.
ARCHITECTURES: Registry[Callable[..., nn.Module]] = Registry("architecture")
ARCHITECTURES.add("mobilefacenet", "facefocus.models.mobilefacenet:MobileFaceNet")
ARCHITECTURES.add("squeezenet", "facefocus.models.squeezenet:SqueezeNet")
ARCHITECTURES.add("iresnet", "facefocus.models.iresnet:IResNet")
ARCHITECTURES.add("inception_resnet_v1", "facefocus.models.inception_resnet:InceptionResnetV1")
ARCHITECTURES.add("vision_transformer", "facefocus.models.vision_transformer:VisionTransformer")

#: Recognizers of other packages: their entry points in ``facefocus.recognizers``, each a
#: recognizer or a function without arguments that makes one.
PLUGINS: Registry[Callable[[], Recognizer] | Recognizer] = Registry("recognizer")

#: Files that are run as they are, by what runs them.
BLACK_BOXES: Mapping[str, type[OnnxRecognizer] | type[OpenVinoRecognizer]] = {
    "onnx": OnnxRecognizer,
    "openvino": OpenVinoRecognizer,
}

#: Networks by the names that people know them by, and a recognizer that has each one's options and
#: usual preprocessing.
NETWORKS = {
    "iresnet18": "iresnet18-glint360k",
    "iresnet50": "iresnet50-glint360k",
    "iresnet100": "iresnet100-glint360k",
    "inception_resnet_v1": "facenet-vggface2",
    "mobilefacenet": "mobilefacenet-casia",
    "squeezenet": "squeezenet-vggface2",
}

#: Weights that are part of the package lie below.
_PACKAGED = Path(__file__).parent
#: Weights that the user added under names of their own lie below this folder of the cache.
OWN = "own"

#: A value of an architecture's option, as TOML can hold it.
Option = bool | int | float | str | list[int]


class Part(Spec):
    """A file that a recognizer needs besides its own: its name there, its link and its sha256."""

    model_config = ConfigDict(strict=True)

    file: str
    url: str
    sha256: str


class Entry(Spec):
    """One recognizer of the zoo.

    Attributes:
        title: One line for people.
        architecture: Name in `ARCHITECTURES`; or in `BLACK_BOXES`, for a file that is run as it is.
        options: Keyword arguments of the architecture.
        preprocessing: As for `preprocessing.from_mapping`.
        training: Data it was trained on.
        data: Whether that data shows real people.
        family: Its architecture line.
        loss: That it was trained with.
        year: Of its publication.
        source: Where it comes from.
        license: Of the weights.
        commercial: Whether that license allows commercial use.
        file: Path of the weights file under ``models/``; those in ``embedded/`` are part of the
            package, each with a card of the same name.
        sha256: Of the file, where it is known; any other file is refused.
        pinned_by: Who gives that hash, where it is not the publisher.
        parts: Further files that must lie beside it.
        accuracy: Published or measured figures.
        pair_threshold: The cosine where FMR and FNMR are equal on LFW View 2, measured here.
        aliases: Other names, such as the paper's.
        url: Direct link to the file.
        page: Page to get the file from by hand, where there is no direct link.
    """

    model_config = ConfigDict(strict=True)

    title: str
    architecture: str
    options: dict[str, Option]
    preprocessing: dict[str, object]
    training: str
    data: Kind
    family: str = NOT_STATED
    loss: str = NOT_STATED
    year: int | None = None
    source: str
    license: str
    commercial: Literal["yes", "no", "unknown"]
    file: str
    sha256: str | None = None
    pinned_by: str = ""
    parts: list[Part] = Field(default_factory=list)
    accuracy: str = ""
    pair_threshold: float | None = None
    aliases: list[str] = Field(default_factory=list)
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
    def lineage(self) -> Lineage:
        """Where it comes from."""
        return Lineage(self.training, self.data, self.family, self.loss, self.year)

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
        return next((path for path in candidates if self._whole(path)), None)

    def _whole(self, path: Path) -> bool:
        return all(file.is_file() for file in (path, *(path.parent / x.file for x in self.parts)))

    def remote_files(self) -> tuple[RemoteFile, ...]:
        """Its files as they are published; without an address where there is no direct link."""
        urls = (self.url,) if self.url else ()
        own = RemoteFile(Path(self.file).name, urls, self.sha256, self.pinned_by)
        return own, *(RemoteFile(part.file, (part.url,), part.sha256) for part in self.parts)

    @property
    def black_box(self) -> bool:
        """Whether its file is a program that gives embeddings only."""
        return self.architecture in BLACK_BOXES

    def needs(self) -> str:
        """The command that installs what runs it, or an empty string where that is here."""
        return missing_package(self.architecture) if self.black_box else ""

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


def entries() -> Mapping[str, Entry]:
    """Every recognizer of the zoo and every one that the user added, by name.

    Raises:
        UserError: The record of an added one is damaged; names it.
    """
    return {**packaged(), **_added()}


@cache
def packaged() -> Mapping[str, Entry]:
    """Every recognizer of ``zoo.toml``, by name."""
    return read_entries((files("facefocus.models") / "zoo.toml").read_text("utf-8"))


def _added() -> dict[str, Entry]:
    added = {}
    for path in sorted(_own_folder().glob("*.json")):
        try:
            added[path.stem] = Entry.model_validate_json(path.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(
                f"The record '{path}' of an added recognizer is damaged. Delete it, and add the "
                f"weights again: facefocus models add {path.stem} FILE --architecture NAME."
            ) from error
    return added


def _own_folder() -> Path:
    return locations.cache_dir() / "models" / OWN


def read_entries(text: str) -> dict[str, Entry]:
    """Entries of a zoo in TOML.

    Raises:
        UserError: A field is missing, unknown or wrong; names the entry.
    """
    return {
        name: parse(Entry, values, f"recognizer '{name}'")
        for name, values in tomllib.loads(text).items()
    }


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


def full_name(name: str, *, others: bool = False) -> str:
    """The zoo's own name for a name or an alias.

    Args:
        name: Name or alias.
        others: Whether the caller takes recognizers of other packages and files as well, so that
            a message may offer them.

    Raises:
        UserError: No such recognizer; suggests the nearest one.
    """
    known = entries()
    aliases = {alias: own for own, entry in known.items() for alias in entry.aliases}
    if name in known:
        return name
    if name in aliases:
        return aliases[name]
    every = [*known, *aliases, *(PLUGINS if others else ())]
    forms = ", ".join(dict.fromkeys(SOURCES[key].form for key in SOURCES))
    files = f"; these can be named as well: {forms}"
    prefix, colon, _ = name.partition(":")
    near = did_you_mean(prefix, SOURCES) if colon else _nearest(name, every)
    raise UserError(
        f"No recognizer is called '{name}'.{near} 'facefocus models list' lists "
        f"them{files if others else ''}."
    )


def describe(name: str) -> Entry:
    """The entry called `name`, or that has this alias.

    Raises:
        UserError: No such entry; suggests the nearest one.
    """
    return entries()[full_name(name)]


def lineage(name: str, recognizer: object = None) -> Lineage:
    """Where a recognizer comes from; not stated where nobody says it.

    Args:
        name: Its name or alias in the zoo, or at a source.
        recognizer: The recognizer itself: what its attribute `lineage` says comes first.

    Example:
        >>> lineage("IR100").training, lineage("mine.py:build").training
        ('Glint360K', 'not stated')
    """
    if isinstance(own := getattr(recognizer, "lineage", None), Lineage):
        return own
    known = entries()
    if (asked := source_of(name)) is not None:
        source, rest = asked
        stated = source.lineages.get(rest, Lineage())
        return known[stated].lineage if isinstance(stated, str) else stated
    alike = (entry for key, entry in known.items() if name in (key, *entry.aliases))
    return next((entry.lineage for entry in alike), Lineage())


def load(
    name: str, preprocessing: Preprocessing | Mapping[str, object] | None = None
) -> Recognizer:
    """A recognizer by its name in the zoo, its entry point, or its file.

    Args:
        name: Name or alias of the zoo; name of an entry point; or a file or a name that a source
            of `models.sources` takes, as ``FILE.onnx`` or ``insightface:PACK``.
        preprocessing: How a recognizer from a file reads frames, as an object or as in TOML; by
            default ``x.toml`` beside ``x.onnx`` or ``x.pt2``. The zoo knows it for its own.

    Raises:
        UserError: Unknown name, no such file, or a file that does not fit.
    """
    name = locations.expanded(name)
    reader = preprocessing
    if isinstance(reader, Mapping):
        reader = own_reading(reader, f"the preprocessing of '{name}'")
    if (made := load_from_source(name, reader)) is not None:
        return made
    if is_weights(Path(name)):
        raise weights_alone(Path(name), "mine")
    if reader is not None:
        raise UserError(f"The preprocessing of '{name}' is its own and cannot be given.")
    return _load_plugin(name) if name in PLUGINS else _load_entry(full_name(name, others=True))


def weights_alone(file: Path, name: str) -> UserError:
    """What to do with a weights file whose network is unknown."""
    fits = fitting(read_weights(file), catalog())
    if not fits:
        return UserError(
            f"The file '{file}' holds weights only, and they fit no network that is known here "
            f"({', '.join(NETWORKS)}). Write a Python file with a function that makes the network "
            "and loads them, and name it as FILE.py:FUNCTION."
        )
    return UserError(
        f"The file '{file}' holds weights only. They fit {' and '.join(fits)}: run facefocus "
        f"models add {name} {file} --architecture {fits[0]}, then name '{name}'."
    )


def layers(name: str, preprocessing: Mapping[str, object] | None = None) -> LayerTable:
    """The layers of a recognizer; those of the zoo need no weights for it.

    Raises:
        UserError: No such recognizer, or a black box.
    """
    own = "" if name in PLUGINS or source_of(name) else full_name(name, others=True)
    if not own or entries()[own].black_box:
        return white_box(load(name, preprocessing), "the table of layers").layers()
    entry = entries()[own]
    reader = entry.reader()
    shape = (1 if reader.channels == "gray" else 3, *reader.size)
    with torch.device("meta"):
        module = entry.build()
    table = trace_layers(module, shape)
    if not table.tokens:
        return table
    if entries()[own].embedded:
        return white_box(load(name, preprocessing), "the table of layers").layers()
    # Tokens are placed by their values, so any values are needed.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return trace_layers(entry.build(), shape)


def catalog() -> dict[str, Callable[[], nn.Module]]:
    """Makers of every network of the zoo, by a name that ``models add --architecture`` takes."""
    makers: dict[str, Callable[[], nn.Module]] = {}
    seen = set()
    known = packaged()
    usual = {name: known[like] for name, like in NETWORKS.items() if like in known}
    for name, entry in {**usual, **known}.items():
        if entry.identity not in seen and not entry.black_box:
            seen.add(entry.identity)
            makers[name] = entry.build
    return makers


def uninitialized(make: Callable[[], nn.Module]) -> nn.Module:
    """A network on the CPU with memory for its weights but no values.

    Saves the time, and the draws from torch's global generator, of an initialization that is
    overwritten at once.
    """
    with torch.device("meta"):
        module = make()
    # As `to_empty`, but `empty_like` of a tensor on "meta" imports sympy, half a second.
    filled = module._apply(  # type: ignore[no-untyped-call]
        lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype)
    )
    assert isinstance(filled, nn.Module)
    return filled


def _load_plugin(name: str) -> Recognizer:
    plugin: object = PLUGINS[name]
    with blaming_own_code():
        if compares_two(plugin):
            made: Recognizer = from_function(cast(Similarity, plugin), name)
        else:
            made = plugin if is_recognizer(plugin) else cast(Callable[[], Recognizer], plugin)()
    recognizer = made if isinstance(made, TorchRecognizer | ScoreRecognizer) else foreign(made)
    recognizer.look()
    return recognizer


def how_to_get(name: str) -> str:
    """What to do for the weights of a recognizer that are not here; one sentence.

    Raises:
        UserError: No such recognizer.
    """
    entry, own = describe(name), full_name(name)
    if entry.url:
        return f"Get them by: facefocus fetch {own}."
    if entry.page:
        return (
            f"Get {Path(entry.file).name} from {entry.page}, then run: facefocus models add {own} "
            "FILE."
        )
    return (
        "No link to them is known: with the file, run facefocus models add "
        f"{own} FILE; 'facefocus fetch' lists recognizers that can be downloaded."
    )


def _load_entry(name: str) -> Recognizer:
    entry = entries()[name]
    path = entry.present() or locations.find(
        f"models/{entry.file}", f"The weights of '{name}'", how_to_get(name)
    )
    if entry.black_box:
        program = BLACK_BOXES[entry.architecture](path, entry.reader())
        program.name = name
        return as_white_box(program, path) if path.suffix == ".onnx" else program
    module, _ = loaded_network(entry, path)
    module.eval().requires_grad_(False)
    recognizer = TorchRecognizer(name, module, entry.reader(), identity=entry.identity)
    recognizer.look()
    return recognizer


def loaded_network(entry: Entry, path: Path) -> tuple[nn.Module, tuple[str, ...]]:
    """The entry's network with the weights in `path`, and notes on what was left out."""
    weights = read_weights(path)
    module = uninitialized(entry.build)
    return module, load_into(module, weights, architecture=entry.identity, catalog=catalog())


def _nearest(name: str, known: list[str]) -> str:
    # Aliases are upper case, and did_you_mean looks for lower case.
    same = [word for word in known if word.lower() == name.lower().replace("-", "_")]
    return f" Did you mean '{same[0]}'?" if same else did_you_mean(name, known)
