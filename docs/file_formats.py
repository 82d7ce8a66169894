"""Every file that facefocus writes or reads for a user, and what is in it.

Columns come from the schema that the writer uses, fields of TOML files from what reads them. What
has no schema is said here, and `tests/test_file_formats.py` compares it with files that are written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from facefocus.analysis.summary import CONTROLS
from facefocus.benchmark.clusters import ClusterFile
from facefocus.benchmark.collect import PHOTO_RISK_SCHEMA, SCHEMA, TRUTH_SCHEMA
from facefocus.benchmark.result_columns import CONFIGURATION
from facefocus.benchmark.run_log import FailedTask
from facefocus.benchmark.stages.robustness import SCHEMA as ROBUSTNESS_SCHEMA
from facefocus.benchmark.stored_masks import INDEX, ROWS
from facefocus.faces.faceset import CHECK_COLUMNS, INDEX_SCHEMA, PAIR_SCHEMA
from facefocus.models.preprocessing import Preprocessing
from facefocus.planted.train.recipe import Recipe
from facefocus.planted.truth_pairs import PairExperiment
from facefocus.submissions.submission import MASK_COLUMNS

#: Type and meaning of each field, by name.
Fields = Mapping[str, tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class FileFormat:
    """A file.

    Attributes:
        name: Of the file.
        about: What it is for.
        fields: Of a table its columns, of an ``.npz`` its arrays, of JSON its values: ``a.b`` is
            the value `b` of the object `a`, ``a[].b`` that of each object of a list, ``a.*`` that of
            every key. An object of which nothing more is said is described elsewhere.
        spec: The class that reads a TOML file and says what its keys are.
    """

    name: str
    about: str
    fields: Fields = dataclasses.field(default_factory=dict)
    spec: type | None = None


def of_table(schema: Mapping[str, Any], meanings: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The fields of a table: its schema says which, `meanings` what they mean."""
    return {name: (str(kind), meanings.get(name, "")) for name, kind in schema.items()}


# --- a prepared face set --------------------------------------------------------------------------

_INDEX = {
    "identity": "the person", "name": "unique name of the image",
    "row": "its place in `frames.npy`; null where it has none",
    **{name: "of the source image, px" for name in INDEX_SCHEMA if name.endswith(("_x", "_y"))},
    "box_width": "of the face, px", "box_height": "of the face, px",
    "turned": "degrees counter-clockwise by which the picture had to be turned",
    "score": "the detector's score of the face that was used",
    "faces": "faces that were found", "path": "where the image lies inside its source",
    "reason": "why the image has no frame", "check": "why somebody should look at it",
}  # fmt: skip

_FILE = {"bytes": ("int", "size"), "sha256": ("text", ""), "mtime_ns": ("int", "when written")}

_FACES = (
    FileFormat(
        "manifest.json",
        "Written last: a folder with a manifest is complete.",
        {
            "format": ("int", "version of this form"),
            "title": ("text", "what the set is called"),
            "hash": ("text", "sha256 of frames, identities and names"),
            "frames": ("list of int", "shape of `frames.npy`"),
            "counts.listed": ("int", "source images"),
            "counts.images": ("int", "of them with a frame"),
            "counts.people": ("int", ""),
            "counts.several_faces": ("int", "images with more than one face"),
            "counts.unusable.*": ("int", "images without a frame, by reason"),
            "counts.check.*": ("int", "images to look at, by reason"),
            "pairs": ("object or null", "the verification list, where there is one"),
            "pairs.listed": ("int", "pairs of the list"),
            "pairs.missing": ("int", "of them without a frame"),
            "pairs.sha256": ("text", "of the list's file"),
            **{f"files.*.{name}": about for name, about in _FILE.items()},
            "record": ("object", "how the set was made: source, settings, notes"),
        },
    ),
    FileFormat(
        "index.parquet", "A row for each source image.", of_table(INDEX_SCHEMA, _INDEX)
    ),
    FileFormat(
        "frames.npy", "The aligned crops.",
        {"": ("uint8 [n, height, width, 3]", "RGB; read memory-mapped")},
    ),
    FileFormat(
        "pairs.parquet", "The verification list, where the set has one.",
        of_table(
            PAIR_SCHEMA,
            {"fold": "from 0", "first": "row of `frames.npy`", "second": "row of `frames.npy`",
             "mated": "whether both show the same person"},
        ),
    ),
    FileFormat(
        "check.csv", "Images that somebody should look at, where there are any: columns of the index.",
        {name: (str(INDEX_SCHEMA[name]), _INDEX[name]) for name in CHECK_COLUMNS},
    ),
    FileFormat(
        "truth.npz", "Of drawn faces: where each planted part is, an array for each part.",
        {"*": ("uint8 [n, height, bytes]", "bits packed along the rows of each frame")},
    ),
    FileFormat(
        "pair-truth.npz",
        "Of `prepare patch-lfw` and `prepare transplant`: pairs, and which pixels speak for a match.",
        {
            "kind": ("text []", "`patches` or `transplants`"),
            "explained": ("int64 [pairs]", "row of the image that is explained"),
            "reference": ("int64 [pairs]", "row of the image that it is compared with"),
            "edited": ("int64 [pairs]", "row of the image with foreign pixels"),
            "original": ("int64 [pairs]", "row of that image as it was"),
            "donor": ("int64 [pairs]", "row of the image that the foreign pixels are from"),
            "mated": ("bool [pairs]", "whether both images show one person"),
            "part": ("text [pairs]", "which part is foreign, or `patches`"),
            "truth": ("uint8 [pairs, height, bytes]", "the pixels, bits packed along the rows"),
        },
    ),
)  # fmt: skip

# --- a run ----------------------------------------------------------------------------------------

#: What a column of the results holds.
_RESULTS = {
    "experiment": "its name", "faces": "title of the face set",
    "source": "recognizers that the map was made on, joined by `+`",
    "target": "recognizer on which hiding is tried",
    "method": "what made the map; of a control, the method whose mask it answers",
    "options": "of the method; and the shape of the mask, where it is not `pixels`",
    "layer": "as asked", "layer_calls": "numbers of the layer's calls in execution order",
    "objective": "as asked", "evidence": "`positive` or `negative`",
    "normalize": "whether the objective compares normalized embeddings",
    "arcface_scale": "the s of arcface", "max_pairs": "pairs of a person, at most; null: all",
    "split": "which photos the map is made of and tried on: `same`, `heldout`, ...",
    "control": "which one the row is of; null for the map's own mask",
    "budget": "share of the crop that may be hidden", "fill": "what replaces a hidden pixel",
    "reading": "what a drop under the fill shows: `artefact` or `information`",
    "on_degenerate": "what becomes of people without a map",
    "compare": "`clean`, or `both` photos of a pair are hidden",
    "threshold_rule": "where the threshold comes from", "threshold": "cosine",
    "eer": "equal error rate of the target on the verification pairs",
    "seed": "of the experiment", "identity": "the person",
    "images": "photos of the person on which hiding is tried",
    "pairs": "ordered mated pairs of these photos",
    **{f"{front}{clean}{name}": f"{meaning}, {photos}{under}"
       for front, under in (("", ""), ("nuisance_", ", under the nuisance"))
       for clean, photos in (("clean_", "nothing hidden"), ("", "hidden photos against clean ones"))
       for name, meaning in (("cosine", "mean cosine of these pairs"),
                             ("rate", "share of these pairs at or above the threshold"))},
    "clean_fmr": "share of the person's non-mated pairs at or above the threshold, nothing hidden",
    "fmr": "the same, hidden photos against clean ones",
    "budget_pixels": "pixels that the budget allows",
    "masked_pixels": "pixels that were hidden; a mean where there are draws or halves",
    "masked_share": "the same as a share of the crop",
    "maps": "pair maps that the person's map rests on",
    "maps_degenerate": "those of them that were flat and left out",
    "maps_ill_conditioned": "those that another machine may not reproduce",
    "degenerate": "whether no map was left", "draws": "draws whose mean the row is",
    "nuisance": "what happens to the photos",
    "gallery_people": "people of the gallery that each hidden photo is looked for in",
    **{f"{clean}{name}": f"{meaning}, {photos}"
       for clean, photos in (("clean_", "nothing hidden"), ("", "hidden"))
       for name, meaning in (("rate_strict", "as `rate`, at an FMR of 1e-3"),
                             ("any_rate", "share of photos that match any other photo of the person"),
                             ("any_rate_strict", "the same at an FMR of 1e-3"),
                             ("template_rate", "share of photos that match the person's template"),
                             ("template_rate_strict", "the same at an FMR of 1e-3"),
                             ("rank_one", "share of photos to which no other person's template is nearer"))},
    "truth_share": "share of the mask in the planted parts",
    "truth_auc": "area under the map's ROC curve for planted pixels",
    "truth_pointing": "whether the map's maximum lies in a planted part",
    **{f"truth_{name}_best": "the best that any mask or map could have"
       for name in ("share", "auc", "pointing")},
    "truth_chance": "share and pointing of random pixels: the planted area; of AUC it is 0.5",
}  # fmt: skip

#: What a column of a table of configurations holds; what is compared has an interval.
_CONFIGURATIONS = {
    **dict.fromkeys(("clean_rate", "rate", "clean_cosine", "cosine"), ("Float64", "mean over people")),
    "drop": ("Float64", "`clean_rate` minus `rate`"),
    "beyond_random": ("Float64", "drop minus the drop by random pixels"),
    "beyond_center": ("Float64", "drop minus the drop by `center-gaussian`"),
    **{name: ("Float64", f"drop minus the drop by the control `{control}`")
       for control, name in CONTROLS.items()},
    "half_drop": ("Float64", "drop by maps from half of a person's photos, on that half"),
    "heldout_drop": ("Float64", "drop by the same maps on the other half"),
    "heldout_loss": ("Float64", "`half_drop` minus `heldout_drop`"),
    "heldout_identities": ("Int64", "people of these three"),
    "oracle_share": ("Float64", "share of the oracle's drop beyond random pixels that the mask takes"),
    "cosine_*": ("Float64", "the same of the mean cosine"),
    "*_low": ("Float64", "lower end of the 95 % interval; null with under five people"),
    "*_high": ("Float64", "upper end"),
    "*_t_p": ("Float64", "p-value of a paired t test, uncorrected"),
    "*_wilcoxon_p": ("Float64", "p-value of Wilcoxon's signed-rank test, uncorrected"),
    "identities": ("Int64", "people"), "scored": ("Int64", "people with scores"),
    "degenerate_share": ("Float64", "of people: those without a map"),
    "maps_degenerate_share": ("Float64", "of pair maps: those that were flat"),
    "maps_ill_conditioned_share": ("Float64", "of pair maps: those that another machine may not reproduce"),
    "area_mean": ("Float64", "share of the crop that is hidden, mean over people"),
    "area_max": ("Float64", "its maximum"),
    "over_budget_share": ("Float64", "of people: those with more than the budget hidden"),
    "unaffected_share": ("Float64", "of people: those whose scores did not change"),
    "clean_fmr": ("Float64", "false match rate, nothing hidden"), "fmr": ("Float64", "the same, hidden"),
    "eer": ("Float64", "equal error rate of the target"), "images": ("Int64", "photos"),
    "pairs": ("Int64", "mated pairs"), "maps": ("Int64", "pair maps"),
    "draws": ("Int64", "draws that are averaged"),
    "warning": ("String", "what to know before the row is read"),
}  # fmt: skip

_STORED = {
    **_RESULTS,
    "block": "people whose maps are made in one task", "people": "whose",
    "images": "a photo of each, row of the face set", "maps": "key of the store",
    "scores": "key of the store", "budgets": "of the masks, in their order",
    "fill": "null where map and masks serve every fill",
}  # fmt: skip

_METHOD = "the map's columns of `results.parquet`"

#: By event, what a line of the log says besides its `time` and `event`.
EVENTS = {
    "start": "`host`, `process`", "stage": "`stage`, `tasks`, `passes`", "workers": "`count`",
    "begin": "`stage`, `key`, `worker`",
    "end": "`stage`, `key`, `worker`, `seconds`, `processor`, `passes`, `images`, `padded`"
    " (seconds by the clock and of the processor; images that only filled batches)",
    "spent": "`part`, `seconds`, `processor`: start, plan, tables, page",
    "failed": "`stage`, `key`, `worker`, `error`, `traceback`, `attempt`", "stop": "`reason`",
    "finish": "nothing",
}  # fmt: skip

_RUN = (
    FileFormat(
        "run.json", "What was asked, written when the run begins.",
        {
            "experiment": ("object", "the [experiment](experiment-file.md), defaults filled in"),
            "faces": ("text", "folder of the face set, from the run folder"),
            "backend": ("text", "as asked: `auto`, `torch`, `openvino`, ..."),
            "store": ("text", "`default`, a folder from the run folder, or a URL"),
            "batches": ("list of list of text or int", "images of a pass, by recognizer"),
            "calibration": ("text or null", "folder of the faces that set thresholds"),
        },
    ),
    FileFormat(
        "experiment.toml", "The experiment with everything filled in: [experiment files](experiment-file.md)."
    ),
    FileFormat(
        "provenance.json", "Software, machine, recognizers and faces of the run.",
        {
            "facefocus": ("text", "version"), "python": ("text", "version"),
            "libraries.*": ("text", "version"), "system": ("text", ""), "processor": ("text", ""),
            "cores": ("int", "of the machine"), "threads": ("int", "of torch"),
            "backend": ("text", "as asked"),
            "backend_reason": ("text", "why it was chosen"),
            "recognizers.*.fingerprint": ("text", "changes whenever embeddings could"),
            "recognizers.*.precision": ("text", ""),
            "recognizers.*.forward": ("list of text", "what runs passes"),
            "recognizers.*.gradients": ("list of text or null", "what runs passes with gradients; null for a"
                                        " black box"),
            "recognizers.*.lineage.training": ("text", "data that it was trained on"),
            "recognizers.*.lineage.data": ("text", "whether that data shows real people"),
            "recognizers.*.lineage.family": ("text", ""),
            "recognizers.*.lineage.loss": ("text", ""),
            "recognizers.*.lineage.year": ("int or null", "of its publication"),
            "faces.title": ("text", ""), "faces.hash": ("text", ""),
            "faces.path": ("text", "name of its folder"), "faces.frames": ("int", "images"),
            "identities": ("int", "people of the run"),
            "verification_pairs": ("int", "that set thresholds"),
            "thresholds.*": ("number", "cosine, by recognizer"),
            "passes.*": ("int", "planned, by stage"), "map_artefacts": ("int", "maps in the store"),
            "tasks_done": ("int", "in the last call of `run`"),
            "started": ("text", "time, UTC"), "finished": ("text", "time, UTC"),
        },
    ),
    FileFormat(
        "results.parquet",
        "A row is one person under one configuration. What the figures mean:"
        " [scores](../protocol.md#scores).",
        of_table(SCHEMA, _RESULTS),
    ),
    FileFormat(
        "results.parquet, on drawn faces",
        "Further columns: how well the map finds what is planted"
        " ([planted truth](../protocol.md#planted-truth)).",
        of_table(TRUTH_SCHEMA, _RESULTS),
    ),
    FileFormat(
        "results.parquet, with identification = true",
        "Further columns ([photo risk](../protocol.md#photo-risk)).",
        of_table(PHOTO_RISK_SCHEMA, _RESULTS),
    ),
    FileFormat(
        "A table of configurations",
        "`facefocus report RUN --format csv` prints it, `Results.table` holds it, `Results.to_csv` writes"
        " it: a row for each configuration, over people ([statistics](../protocol.md#statistics))."
        " `experiment` to `seed` are as in `results.parquet`. What was not measured is null. The command"
        " puts `_uncorrected` behind the names of p-values. With `identification = true` its rates are"
        " further columns.",
        _CONFIGURATIONS,
    ),
    FileFormat(
        "robustness.parquet", "With `[robustness]`: a row of the results under one nuisance.",
        of_table({name: SCHEMA[name] for name in CONFIGURATION} | ROBUSTNESS_SCHEMA,
                 _RESULTS),
    ),
    FileFormat(
        "people.parquet",
        "Means over each person's photos ([strata](../protocol.md#strata)); what the face set does"
        " not hold is no column.",
        {
            "faces": ("String", "title of the face set"), "identity": ("String", "the person"),
            "images": ("Int64", "photos"), "yaw to either side": ("Float64", "degrees"),
            "roll to either side": ("Float64", "degrees"),
            "nose between eyes and mouth": ("Float64", "0 at the eyes, 1 at the mouth"),
            "distance of the eyes, px": ("Float64", "in the source image"),
            "detector's score": ("Float64", "of the face"), "sharpness": ("Float64", "variance of the Laplacian of the gray crop"),
        },
    ),
    FileFormat(
        "stored-masks.parquet", "Where the store has maps and masks: a row for a block of people.",
        of_table(INDEX, _STORED),
    ),
    FileFormat(
        "gallery.parquet", "Masks of a few people, kept for pictures: a row for each.",
        of_table(
            ROWS,
            {**_STORED, "index": "place among the masks of `gallery.npz`",
             "map": "place among its maps", "image": "row of the face set"},
        ),
    ),
    FileFormat(
        "gallery.npz", "Their maps and masks.",
        {
            "maps": ("float32 [maps, height, width]", "larger is hidden first"),
            "masks": ("bool [masks, height, width]", "true where hidden"),
            "planted": ("float64 [people, height, width]", "on drawn faces: share of the photos in"
                        " which the pixel shows what is planted"),
        },
    ),
    FileFormat(
        "keys.parquet", "All that the run makes, by its key in the store.",
        {"stage": ("String", "of the run: `embed`, `maps`, ..."), "key": ("String", "64 hexadecimal digits")},
    ),
    FileFormat(
        "run.log", "A line of JSON for each event, written while the run goes on.",
        {
            "time": ("number", "seconds since 1970"),
            "event": ("text", "; ".join(f"`{name}`: {more}" for name, more in EVENTS.items())),
        },
    ),
    FileFormat(
        "failed.jsonl", "A line of JSON for each task that was set aside; no file where there is none.",
        spec=FailedTask,
    ),
    FileFormat(
        "stop.json", "With `[stop]`: what is certain so far ([early stopping](../early-stopping.md)).",
        {
            "when": ("text", "as asked"), "width": ("number or null", "as asked"),
            "level": ("number", "error of all decisions together"),
            "people": ("int", "scored so far"), "of": ("int", "people of the run"),
            "finished": ("true or false", "whether the run is through"),
            "verdicts[].about": ("object", "target and slice of the results"),
            "verdicts[].people": ("int", ""), "verdicts[].of": ("int", ""),
            "verdicts[].methods": ("list of object", f"that compete: {_METHOD}"),
            "verdicts[].open": ("list of object", "those of which nothing is certain"),
            "verdicts[].first": ("object or null", "the certain first place"),
            "verdicts[].intervals": ("list of list of number", "with `width`: of each method"),
            "verdicts[].certain": ("true or false", "whether nothing is open"),
            "left_out": ("list of list of object", "of each round, maps that were not made"),
        },
    ),
    FileFormat(
        "study.json", "Of a study: its runs, each in a folder of its own.",
        {
            "name": ("text", ""), "missing": ("list of text", "what could not be had"),
            "runs": ("list of text", "names of the folders"),
        },
    ),
    FileFormat(
        "choices.json", "Of a study's run: settings that were taken from an earlier stage, by field and method.",
        {
            "*.*.chosen": ("text", ""), "*.*.from": ("text", "the earlier run"),
            "*.*.rule": ("text", "in words"), "*.*.ranking[].setting": ("text", "best first"),
            "*.*.ranking[].rate": ("number", "mean recognition rate"),
        },
    ),
    FileFormat(
        "pairs.parquet, of truth-pairs", "A row for each recognizer, method, layer and pair"
        " ([truth on real faces](../protocol.md#truth-on-real-faces)).",
        {
            "game": ("String", "`patches` or `transplants`"), "recognizer": ("String", "that compares the pair"),
            "threshold": ("Float64", "cosine"), "method": ("String", "`truth` is the truth itself"),
            "layer": ("String", "as asked"), "person": ("String", "who is explained"),
            "image": ("String", "the edited image"), "part": ("String", "which is foreign"),
            "mated": ("Boolean", "whether both images show one person"), "chance": ("Float64", "area of the truth"),
            "auc": ("Float64", "area under the map's ROC curve for the truth"), "share": ("Float64", "of the mask in the truth"),
            "pointing": ("Float64", "whether the map's maximum lies in the truth"),
            "overlap": ("Float64", "intersection over union of the truth and as many of the map's largest pixels"),
            "degenerate": ("Boolean", "whether the map is flat"),
            "error": ("Float64", "share of wrong decisions, pixels given back"),
            "matches": ("List(Boolean)", "decision as it is, then with each share given back"),
            "deletion": ("Float64", "of transplants"), "insertion": ("Float64", "of transplants"),
        },
    ),
)  # fmt: skip

# --- one person, a card, maps ---------------------------------------------------------------------

_FIGURE = {
    "condition": ("text", "`clean`; `chosen`, the candidate picked on the other half; the candidates"
                  " `own`, `population`, `atlas-...`; the controls `shifted`, `random`, `other`;"
                  " `own-same-photos`, the own mask on the photos that it was made from"),
    "recognizer": ("text", "who judged"),
    "seen": ("true or false", "whether the mask was made on it"),
    "gallery": ("text", "`unseen`: compared with clean photos that the mask never saw; `others`: with"
                " all other photos of the person"),
    "measure": ("text", "`cosine`, `pair`, `any`, `template`, `rank-1`, `false-match`"),
    "rule": ("text", "of the threshold; empty where the measure has none"),
    "value": ("number or null", "a mean over photos"),
    "low": ("number or null", "lower end of its 95 % interval over photos"),
    "high": ("number or null", "upper end"), "photos": ("int", ""),
}  # fmt: skip

_PERSON = (
    FileFormat(
        "explanation.json", "All figures; one that does not exist is `null`.",
        {
            "format": ("int", "version of this form; raised when a field changes its meaning"),
            "facefocus": ("text", "version of the program"),
            "person": ("text", "name of the folder"),
            "photos": ("list of text", "those that count; their places are the rows below"),
            "left_out[].photo": ("text", "a photo that does not count"),
            "left_out[].reason": ("text", ""), "remarks": ("list of text", "what to look at"),
            "recipe.budget": ("number", "share of the crop that is hidden"),
            "recipe.shape": ("text", ""), "recipe.fill": ("text", ""),
            "recipe.against": ("text or null", "`repair`"),
            "recipe.draft": ("true or false", ""), "recipe.seed": ("int", ""),
            "recipe.method": ("text", "of the own mask"),
            "mask.recommended": ("text", "the candidate"), "mask.pixels": ("int", "hidden"),
            "mask.parts.*": ("number", "the mask's share in each part of the"
                             " [atlas](../protocol.md#part-atlas)"),
            "halves[].made_of": ("list of int", "rows; empty without two halves"),
            "halves[].tried_on": ("list of int", "rows"),
            "teams[].sources": ("list of text", "recognizers that masks were made on"),
            "teams[].picked": ("list of text", "the candidate that counts for each photo"),
            "teams[].recommended": ("text", "the one that is best on all"),
            "recognizers[].name": ("text", "a judge"), "recognizers[].fingerprint": ("text", ""),
            "recognizers[].seen": ("true or false", "whether the mask was made on it"),
            "recognizers[].thresholds.*": ("number", "cosine for pairs, by rule"),
            "recognizers[].template_thresholds.*.*": ("number", "by photos of a template and rule"),
            "recognizers[].thresholds_from": ("text", ""),
            "recognizers[].strongest_control": ("text or null", ""),
            "rules.*": ("text", "the rules of thresholds, by name"),
            "other_people": ("object or null", "the gallery, the person left out"),
            "other_people.title": ("text", ""), "other_people.hash": ("text", ""),
            "other_people.people": ("int", ""), "other_people.photos": ("int", ""),
            "sentences": ("list of text", "the first screen"), "warnings": ("list of text", ""),
            "limits": ("list of text", "what is not proven, and how to get it"),
            **{f"figures[].{name}": about for name, about in _FIGURE.items()},
            "robustness[].nuisance": ("text", ""), "robustness[].title": ("text", "in words"),
            "robustness[].recognizer": ("text", ""), "robustness[].seen": ("true or false", ""),
            "robustness[].clean": ("number or null", "mean cosine under the nuisance"),
            "robustness[].hidden": ("number or null", "the same, hidden"),
            "robustness[].surviving.value": ("number or null", "share of the drop that survives"),
            "robustness[].surviving.low": ("number or null", ""),
            "robustness[].surviving.high": ("number or null", ""),
            "robustness[].measures[].measure": ("text", ""), "robustness[].measures[].rule": ("text", ""),
            "robustness[].measures[].value": ("number or null", "a mean, hidden"),
            "robustness[].photos": ("int", ""),
            "robustness[].undetected": ("int", "photos in which the face was no longer found"),
            "robustness[].moved": ("number or null", "mean distance of landmarks, px of the crop"),
            "repair[].against": ("true or false", "whether the mask was found with `--against repair`"),
            "repair[].budget": ("number", ""),
            "repair[].repaired": ("true or false", "whether photos were, the places known"),
            **{f"repair[].{name}": (kind, "as of `figures`") for name, (kind, _) in _FIGURE.items()},
            "repair_cost[].recognizer": ("text", ""), "repair_cost[].seen": ("true or false", ""),
            "repair_cost[].budget": ("number or null", "the least area tried at which repair leaves as"
                                     " little as the asked area of a mask found without repair leaves"
                                     " before it; null where none does, or where that mask takes nothing"),
        },
    ),
    FileFormat(
        "mask.npz", "A mask of the aligned crop ([mask files](../protocol.md#mask-files)). `mask.png`"
        " is the same as a picture, hidden pixels white.",
        {
            "mask": ("bool [112, 112]", "true where hidden"),
            "crop": ("text []", "`arcface112`"),
            "landmarks": ("float64 [5, 2]", "x, y of eyes, nose and corners of the mouth in the crop"),
        },
    ),
    FileFormat(
        "maps.npz", "Maps by person: `IdentityMaps.to_npz` writes it; `maps = \"maps.npz\"` of an"
        " experiment and `IdentityMaps.from_npz` read it. Arrays of other than two axes are left out.",
        {"*": ("float32 [height, width]", "named by identity; of the crop's size; larger is hidden first."
               " Any type of number is read")},
    ),
)  # fmt: skip

_INTERVAL = "list of number or null"

_CARD = (
    FileFormat(
        "card.json", "All figures of a card. An interval is `[value, low, high]`; what there is none of"
        " is `null`.",
        {
            "format": ("int", "version of this form"), "model": ("text", ""),
            "fingerprint": ("text", ""),
            "lineage.training": ("text", "data that it was trained on"),
            "lineage.data": ("text", "whether that data shows real people"),
            "lineage.family": ("text", ""), "lineage.loss": ("text", ""),
            "lineage.year": ("int or null", ""),
            "faces.title": ("text", ""), "faces.hash": ("text", ""), "people": ("int", ""),
            "photos": ("int", ""), "mated_pairs": ("int", "of the first table"),
            "non_mated_pairs": ("int", ""), "seed": ("int", ""),
            "method.*": ("text", "what made the maps: its name and options"),
            "calls": ("int or null", "of a recognizer that gives scores only"),
            "eer": ("number", "on the verification pairs"), "thresholds.*": ("number", "by rule"),
            "conditions[].condition": ("text", "what became of the photos"),
            "conditions[].hidden": ("number", "share of the crop"),
            "conditions[].rates.*.tmr": (_INTERVAL, "true match rate, by the threshold's rule"),
            "conditions[].rates.*.change": (_INTERVAL, "against clean photos"),
            "conditions[].rates.*.p": ("number or null", "that there is a change, Holm's correction"),
            "conditions[].rates.*.shown": ("true or false", "whether a change is shown"),
            "conditions[].fmr": (_INTERVAL, "false match rate at the first threshold"),
            "maps": ("object or null", ""), "maps.people": ("int", "who has a map"),
            "maps.without": ("int", "who has none"),
            "maps.half_area": (_INTERVAL, "share of the crop that holds half of a map"),
            "maps.shares.*.area": ("number", "of a part"),
            "maps.shares.*.share": (_INTERVAL, "of the map in it"),
            "maps.shares.*.p": ("number or null", "that it differs from the area"),
            "maps.correlation.own": (_INTERVAL, "maps of a person's two halves"),
            "maps.correlation.others": (_INTERVAL, "with maps of other people"),
            "maps.correlation.difference": (_INTERVAL, ""),
            "maps.correlation.people": ("int", "who has two halves"),
            "strata[].grouping": ("text", "what people are divided by"), "strata[].group": ("text", ""),
            "strata[].people": ("int", ""), "strata[].photos": ("int", ""),
            "strata[].rates.*.tmr": (_INTERVAL, ""), "strata[].rates.*.change": (_INTERVAL, "against the others"),
            "strata[].rates.*.p": ("number or null", ""), "strata[].rates.*.shown": ("true or false", ""),
            "strata[].fmr": (_INTERVAL, ""), "strata[].face_share": (_INTERVAL, "of the map, inside the face"),
            "warnings": ("list of text", "to be known before any figure is read"),
        },
    ),
    FileFormat(
        "population.npz", "The mean map of all people of a card.",
        {"population": ("float32 [height, width]", "each person's map scaled to 0 to 1")},
    ),
)  # fmt: skip

# --- a submission ---------------------------------------------------------------------------------

_SUBMISSION = (
    FileFormat(
        "submission.json", "What the file holds.",
        {
            "format": ("int", "version of this form"), "name": ("text", "of the run"),
            "people": ("list of text", "pseudonyms whose masks are in the file"),
            "files.*": ("text", "sha256 of every other file"),
        },
    ),
    FileFormat(
        "run.json, of a submission", "As of a run, without places on the machine.",
        {
            "experiment": ("object", "people under pseudonyms"), "backend": ("text", ""),
            "batches": ("list of list of text or int", ""),
            "frame": ("list of int", "height and width of the crops"),
        },
    ),
    FileFormat(
        "methods.json", "Version of each method, or the hash of its code.", {"*": ("text", "by method")}
    ),
    FileFormat(
        "masks.parquet", "A row for each mask of these people.",
        of_table(
            MASK_COLUMNS,
            {**_RESULTS, "identity": "pseudonym", "mask": "row of `masks.npy`",
             "fold": "which half the map is from", "map_draw": "of a method that draws",
             "control_draw": "of a control that draws"},
        ),
    ),
    FileFormat(
        "masks.npy", "The masks.", {"": ("uint8 [masks, bytes]", "bits packed, row after row of the crop")}
    ),
)  # fmt: skip

# --- what a user writes ---------------------------------------------------------------------------

_WRITTEN = (
    FileFormat(
        "groups.csv",
        "For `--groups`: the first line names the columns. A person or image that is in no line, or has"
        " an empty cell, is in no group.",
        {
            "identity or image": ("text", "whom the line is about: a person, or one image by its name"),
            "any other": ("text", "the group; the column's name is what people are divided by"),
        },
    ),
    FileFormat(
        "A verification list",
        "For `prepare --pairs`, in any common form: a line is `Name 1 4` or `Name 1 Other 2` (`pairs.txt`"
        " of LFW), `path path 1` or `1 path path` (0 or -1 for non-mated), or `Name_1.jpg 1` on two lines"
        " for each pair (CALFW, CPLFW). Fields are parted by tabs, commas, semicolons or spaces; a"
        " heading such as `10 300` gives folds.",
    ),
    FileFormat(
        "A matrix of rates",
        "For `audit --matrix`: CSV. The first line names the target recognizers, the first cell of every"
        " other line the source recognizer; lines called `clean` and `hidden` give the rates with nothing"
        " and with the whole face hidden.",
    ),
    FileFormat(
        "TOML beside a weights file", "`mine.toml` says how `mine.onnx` reads a face.", spec=Preprocessing
    ),
    FileFormat(
        "A cluster file", "For `--cluster FILE.toml`: [clusters](../cluster.md).", spec=ClusterFile
    ),
    FileFormat(
        "An experiment on pairs", "For `facefocus truth-pairs FILE`.", spec=PairExperiment
    ),
    FileFormat(
        "A training recipe",
        "For `facefocus synthetic train FILE`. What was trained has a card beside its weights: the"
        " recipe, then `[result]`, `[validation]` and, of a world of one part, `[planted]`.",
        spec=Recipe,
    ),
)  # fmt: skip

#: The pages: name, title, what is said first, and the files.
PAGES: tuple[tuple[str, str, str, tuple[FileFormat, ...]], ...] = (
    ("files-written", "Files that you write",
     "Besides [experiment files](experiment-file.md).", _WRITTEN),
    ("files-faces", "Files of a face set",
     "A folder that `facefocus prepare` and `facefocus synthetic make` write.", _FACES),
    ("files-run", "Files of a run",
     "A folder that `facefocus run` writes; with variants, a folder in it for each. A study has one"
     " for each of its runs. `facefocus truth-pairs` writes the last file alone.", _RUN),
    ("files-person", "Masks, maps and one person's figures",
     "What `facefocus person` writes, and what `facefocus apply` reads. The other files of the folder:"
     " [one person's photographs](../person.md).", _PERSON),
    ("files-card", "Files of a recognizer card",
     "A folder that `facefocus card` writes, beside the page.", _CARD),
    ("files-submission", "Files of a submission",
     "`facefocus submit` writes a ZIP archive with these; a run with variants has those of each in a"
     " folder. `results.parquet`, `people.parquet`, `robustness.parquet`, `provenance.json` and"
     " `experiment.toml` are as [of a run](files-run.md), people under"
     " [pseudonyms](../protocol.md#submissions).", _SUBMISSION),
)  # fmt: skip


def formats() -> Iterator[FileFormat]:
    """Every file of every page."""
    for _, _, _, files in PAGES:
        yield from files
