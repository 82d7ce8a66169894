"""FaceNet of facenet-pytorch: ``facenet-pytorch:vggface2`` or ``facenet-pytorch:casia-webface``."""

from __future__ import annotations

import os
from pathlib import Path

from facefocus.core.errors import UserError
from facefocus.models.preprocessing import Preprocessing
from facefocus.models.recognizer import TorchRecognizer
from facefocus.models.sources import RecognizerSource, check_name, package
from facefocus.models.weights import load_into, read_weights

#: Its weights, by the names that it gives them, and the file of each in the folder of torch.
FILES = {
    "vggface2": "20180402-114759-vggface2.pt",
    "casia-webface": "20180408-102900-casia-webface.pt",
}


def load_facenet(name: str, preprocessing: Preprocessing | None) -> TorchRecognizer:
    """InceptionResnetV1 with pretrained weights: 160 x 160, RGB, (x - 127.5) / 128.

    Raises:
        UserError: No such weights, the package or the file is not here, or the file does not fit.
    """
    full = f"facenet-pytorch:{name}"
    check_name(name, FILES, FACENET.form)
    facenet = package("facenet_pytorch", "pip install facenet-pytorch --no-deps", full)
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = Path(os.environ.get("TORCH_HOME", Path(cache) / "torch")).expanduser()
    path = home / "checkpoints" / FILES[name]
    if not path.is_file():
        # The package would download it.
        raise UserError(
            f"The weights '{path}' of '{full}' do not exist. Get them by: python -c \"from"
            f" facenet_pytorch import InceptionResnetV1; InceptionResnetV1('{name}')\"."
        )
    module = facenet.InceptionResnetV1()
    load_into(module, read_weights(path), architecture=full, catalog={})
    return TorchRecognizer(
        f"facenet-pytorch-{name}",
        module.eval().requires_grad_(False),
        Preprocessing((160, 160), mean=(127.5,) * 3, std=(128.0,) * 3),
        identity="facenet-pytorch InceptionResnetV1",
    )


FACENET = RecognizerSource(
    "facenet-pytorch:NAME",
    load_facenet,
    lineages={"vggface2": "facenet-vggface2", "casia-webface": "facenet-casia"},
)
