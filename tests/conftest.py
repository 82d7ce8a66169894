"""Shapes and types of every public function are enforced while the tests run."""

import os

# Tiny tensors on many threads spend their time waiting; tests of thread counts set their own.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook("facefocus", "beartype.beartype")
