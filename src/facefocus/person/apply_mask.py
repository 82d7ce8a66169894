"""A saved mask, put on photographs (Protocol: painting)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Bool

from facefocus.core.errors import UserError
from facefocus.core.files import check_folder, printable, resolved, writing
from facefocus.core.progress import Progress, silent
from facefocus.faces.agreement import Judge, agreeing
from facefocus.models.zoo import load
from facefocus.occlusion.fills import FILLS, fill_rng
from facefocus.occlusion.mask_files import read_mask
from facefocus.occlusion.painting import overlay as painted_alone
from facefocus.occlusion.painting import paint, write_picture
from facefocus.person.photos import Looked, Photo, listed_files, look_at, named, read_people


@dataclass(frozen=True)
class Applied:
    """What became of the photographs.

    Attributes:
        written: Photograph, file that was written, and a remark on the face or an empty text.
        left_out: Photograph, and why it has none.
    """

    written: tuple[tuple[Path, Path, str], ...]
    left_out: tuple[tuple[Path, str], ...]


def apply_mask(
    mask: str | Path | Bool[np.ndarray, "112 112"],
    photos: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    fill: str = "black",
    overlay: bool = False,
    reference: str | Path | Sequence[str | Path] | None = None,
    model: str | Judge | None = None,
    detector: Path | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Applied:
    """Put a mask on photographs: find the face, align it, paint the mask back on the photograph.

    Of several faces the likeliest by size, place and score gets the mask; with `reference`, the one
    that agrees with these photos of the person. Photographs that are aligned crops already, all of
    112x112 pixels, are painted as they are. What is written holds pixels alone.

    Args:
        mask: A file ``mask.npz`` or ``mask.png``, or an array that is True where the aligned crop
            is to be hidden.
        photos: Files or folders of photographs.
        out: Folder for ``NAME.png``.
        fill: What hides (``facefocus list fills``).
        overlay: Write transparent pictures with the mask alone, of the photographs' size.
        reference: Photographs of the person, one folder or files.
        model: The recognizer that compares faces with the reference.
        detector: YuNet's file, if not in the usual places.
        seed: Of fills that draw.
        progress: Called with a stage, and photos done and in total.

    Raises:
        UserError: The mask was made for another crop, there is no photograph, none shows a face,
            the reference has no model or is of several people, or `out` cannot be written or holds
            the photographs.

    Example:
        >>> from PIL import Image
        >>> from facefocus.faces.sources.synthetic import render
        >>> Image.fromarray(render("all", 1, 0, 0).frame).save("ada.png")
        >>> mask = np.zeros((112, 112), bool)
        >>> mask[44:60, 28:84] = True
        >>> applied = apply_mask(mask, "ada.png", "hidden")
        >>> int(np.asarray(Image.open("hidden/ada.png"))[mask].max())
        0
    """
    if isinstance(mask, str | Path):
        mask = read_mask(mask)
    _ = FILLS[fill]
    files, out = listed_files(photos), check_folder(Path(out), "--out")
    # Before any work: what cannot be written is not looked for.
    with writing(out):
        new = not out.exists()
        out.mkdir(parents=True, exist_ok=True)
        TemporaryDirectory(dir=out).cleanup()
        if new:
            out.rmdir()
    person = _embedded(reference, model, detector)
    looked = look_at(files, detector, progress)
    chosen = [(file, *_face(file, person)) for file in looked if file.reason is None]
    left_out = [(file.path, file.reason) for file in looked if file.reason is not None]
    names = named([photo for _, photo, _ in chosen])
    targets = [out / f"{photo.name}.png" for photo in names]
    _check_targets(out, targets, files)
    written = []
    for (file, _, remark), photo, target in zip(chosen, names, targets, strict=True):
        try:
            pixels = photo.pixels
        except UserError as error:
            left_out.append((file.path, str(error)))
            continue
        draw = painted_alone if overlay else paint
        write_picture(target, draw(pixels, photo.matrix, mask, fill, fill_rng(seed, photo.name)))
        written.append((file.path, target, remark))
        progress("paint", len(written), len(chosen))
    if not written:
        reasons = "; ".join(f"{printable(path.name)}: {why}" for path, why in left_out[:3])
        raise UserError(f"None of the {len(files)} photographs could be painted. {reasons}.")
    return Applied(tuple(written), tuple(left_out))


def _check_targets(out: Path, targets: Sequence[Path], photos: Sequence[Path]) -> None:
    originals = {resolved(path) for path in photos}
    for target in targets:
        if resolved(target) in originals:
            raise UserError(
                f"The '--out' must be another folder than that of the photographs. Got '{out}',"
                f" where '{target.name}' would be overwritten."
            )


@dataclass(frozen=True, eq=False)
class _Person:
    """Who the mask is for: the recognizer, and the embedding of each reference photo, [1, d]."""

    judge: Judge
    embeddings: list[np.ndarray]


def _embedded(
    reference: str | Path | Sequence[str | Path] | None,
    model: str | Judge | None,
    detector: Path | None,
) -> _Person | None:
    if reference is None and model is None:
        return None
    if reference is None or model is None:
        raise UserError(
            "The '--reference' photos of the person and the '--model' that compares faces with them"
            f" go together. Got only '--{'model' if reference is None else 'reference'}'."
        )
    judge = load(model) if isinstance(model, str) else model
    people = read_people(reference, judge=judge, detector=detector)
    if len(people) > 1:
        raise UserError(
            f"The '--reference' must hold photos of one person. Got folders of {len(people)}."
        )
    crops = np.stack([photo.crop for photo in people[0].photos])
    return _Person(judge, list(judge.embed(crops)[:, None]))


def _face(file: Looked, person: _Person | None) -> tuple[Photo, str]:
    """The face that gets the mask, and a remark where it may be another one."""
    photos = file.candidates
    several = f"of {photos[0].faces} faces, "
    if (photos[0].faces or 1) == 1:
        return photos[0], ""
    if person is None or len(photos) == 1:
        return photos[0], f"{several}the likeliest by size, place and score"
    faces = person.judge.embed(np.stack([photo.crop for photo in photos]))
    number = agreeing(faces, person.embeddings)
    if number is None:
        return photos[0], f"{several}the likeliest; none agrees clearly more with the reference"
    return photos[number], f"{several}the one that agrees with the reference"
