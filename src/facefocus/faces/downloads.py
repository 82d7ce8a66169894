"""Where the face detector and Labeled Faces in the Wild come from, and where they are found."""

from __future__ import annotations

import os
from pathlib import Path

from facefocus.core import locations
from facefocus.core.download import RemoteFile
from facefocus.faces.detect import DETECTOR_FILE, DETECTOR_SHA256

_FIGSHARE = "https://ndownloader.figshare.com/files/"
_OFFICIAL = "http://vis-www.cs.umass.edu/lfw/"

YUNET = RemoteFile(
    Path(DETECTOR_FILE).name,
    (
        "https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/"
        "face_detection_yunet/face_detection_yunet_2023mar.onnx",
    ),
    DETECTOR_SHA256,
)

#: The archives by what was done to their images. The hashes and figshare's copies are those that
#: scikit-learn pins (sklearn.datasets.fetch_lfw_people); for deep-funneled there is no pin.
LFW_ARCHIVES = {
    "original": RemoteFile(
        "lfw.tgz",
        (f"{_FIGSHARE}5976018", f"{_OFFICIAL}lfw.tgz"),
        "055f7d9c632d7370e6fb4afc7468d40f970c34a80d4c6f50ffec63f5a8d536c0",
        pinned_by="scikit-learn",
    ),
    "funneled": RemoteFile(
        "lfw-funneled.tgz",
        (f"{_FIGSHARE}5976015", f"{_OFFICIAL}lfw-funneled.tgz"),
        "b47c8422c8cded889dc5a13418c4bc2abbda121092b3533a83306f90d900100a",
        pinned_by="scikit-learn",
    ),
    "deepfunneled": RemoteFile("lfw-deepfunneled.tgz", (f"{_OFFICIAL}lfw-deepfunneled.tgz",)),
}
LFW_PAIRS = RemoteFile(
    "pairs.txt",
    (f"{_FIGSHARE}5976006", f"{_OFFICIAL}pairs.txt"),
    "ea42330c62c92989f9d7c03237ed5d591365e89b3e649747777b70e692dc1592",
    pinned_by="scikit-learn",
)
LFW_TERMS = (
    "Labeled Faces in the Wild: photographs of public figures from news pages, collected by the"
    " University of Massachusetts for research on face verification. No license of the photographs"
    " is stated."
)


def find_lfw(which: str | None = None) -> Path | None:
    """The photographs of LFW where they are here: an archive, or scikit-learn's folder.

    Args:
        which: A key of `LFW_ARCHIVES`; None for whichever there is.
    """
    names = [LFW_ARCHIVES[key].name for key in LFW_ARCHIVES if which in (None, key)]
    archives = [root / "lfw" / name for root in locations.search_dirs() for name in names]
    # scikit-learn unpacks its downloads; its pairs.txt lies beside them.
    kept = Path(os.environ.get("SCIKIT_LEARN_DATA") or Path.home() / "scikit_learn_data")
    folders = [kept / "lfw_home" / name for name in ("lfw", "lfw_funneled") if which is None]
    return next((path for path in archives if path.is_file()), None) or next(
        (path for path in folders if any(path.glob("*/*_0001.jpg"))), None
    )
