"""Safe reading of ``torch.save`` files: tensors only, no code.

Torch's restricted reader builds tensors, numbers, texts and containers and refuses every other
name. What training scripts store beside weights and is plain data, as a NumPy number, is read as
nothing, by `_Ignored`; any other name would run code, and is the reason of the refusal.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from contextlib import suppress

import torch

#: An open file of bytes.
Source = io.BytesIO | io.BufferedReader


class _Ignored:
    """Placeholder for a value that is no tensor."""

    def __new__(cls, *_: object) -> _Ignored:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        pass

    def __setitem__(self, *_: object) -> None:
        pass

    def extend(self, _: object) -> None:
        """What a pickle adds to a list."""


#: Plain data by the names under which pickles know it; NumPy 2 has another name for its core.
_DATA = [
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core")
      for name in ("scalar", "_reconstruct")),
    *(f"numpy.{name}" for name in ("dtype", "ndarray", "float64", "float32", "int64")),
    "_codecs.encode", "argparse.Namespace", "builtins.complex", "builtins.range",
    "collections.deque", "datetime.datetime", "datetime.timedelta",
    *(f"pathlib{local}.{kind}Path" for local in ("", "._local") for kind in ("Posix", "Windows")),
]  # fmt: skip


class PickleRefused(Exception):
    """Why a pickle was not read: the end of a sentence that begins with its name."""


def load_pickle(source: Source) -> object:
    """What a file of ``torch.save`` holds, on the CPU; nothing in it is run.

    Raises:
        PickleRefused: It would run code, which is named, or it is no whole file of torch.
    """
    with torch.serialization.safe_globals([(_Ignored, name) for name in _DATA]):
        try:
            with warnings.catch_warnings():
                # Torch warns of pickle protocols that are not its own before it refuses the file.
                warnings.simplefilter("ignore")
                return torch.load(source, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        # A hostile file can make the reader fail in any way.
        except Exception as error:
            raise PickleRefused(_reason(source, str(error))) from error


def _reason(source: Source, text: str) -> str:
    # Torch's own text is not shown: it advises loading the file without the restriction.
    match = re.search(r"GLOBAL ([\w.]+)", text)
    name = match[1] if match else _first_name(source)
    if name:
        return f"would run code when it is read ('{name}')"
    return "cannot be read: damaged, or no file of torch.save"


class _AsksForCode(Exception):
    pass


class _Probe(pickle.Unpickler):
    """Stops at the first name that would run; until then nothing can."""

    def find_class(self, module: str, name: str) -> type[_Ignored]:
        full = f"{module}.{name}"
        if full in _DATA or full == "collections.OrderedDict":
            return _Ignored
        raise _AsksForCode(full)

    def persistent_load(self, _: object) -> None:
        pass


def _first_name(source: Source) -> str:
    """The first name that a pickle asks for which is no data, or an empty string."""
    try:
        source.seek(0)
        stream = _record(source)
        while True:
            _Probe(stream).load()
    except _AsksForCode as request:
        return str(request)
    # Anything else is damage: hostile bytes can break the reader in any way.
    except Exception:
        return ""


def _record(source: Source) -> Source:
    """The pickle in a file of torch: an archive's ``data.pkl``, or the file itself."""
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(source) as archive:
        record = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        return io.BytesIO(archive.read(record))
    source.seek(0)
    return source
