"""Whether a change of the code changed a result: the same experiments before and after it.

    python -m benchmarks.unchanged make /tmp/before --faces faces/lfw    # the old code
    python -m benchmarks.unchanged make /tmp/after --faces faces/lfw     # the new code
    python -m benchmarks.unchanged compare /tmp/before /tmp/after

`make` runs experiments on drawn faces and embedded recognizers, and on LFW where it is given, each
folder with a store of its own, so that nothing made by other code is reused. `compare` ends with 1
where a result table is not the same to the byte.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import polars as pl

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
#: On drawn faces.
DRAWN = ("demo", "truth")
#: On LFW, each with so many people.
PHOTOGRAPHS = {"quick": 60, "transfer": 30, "methods": 20}


def make(out: Path, faces: Path | None) -> None:
    """Run every experiment into a folder below `out`; one that is there goes on."""
    for name in DRAWN:
        _run(name, (EXPERIMENTS / f"{name}.toml").read_text(encoding="utf-8"), out, None)
    for name, people in PHOTOGRAPHS.items() if faces is not None else ():
        text = (EXPERIMENTS / f"{name}.toml").read_text(encoding="utf-8")
        _run(name, re.sub(r"(?m)^identities = \d+", f"identities = {people}", text), out, faces)


def _run(name: str, text: str, out: Path, faces: Path | None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{name}.toml"
    file.write_text(text, encoding="utf-8")
    given = [] if faces is None else ["--faces", str(faces)]
    arguments = [str(file), *given, "--out", str(out / name), "--store", str(out / "store")]
    code = "from facefocus.cli import main; main()"
    print(name, flush=True)
    # From there, so that drawn faces are made where the runs are.
    subprocess.run([sys.executable, "-c", code, "run", *arguments], check=True, cwd=out)


def differences(before: Path, after: Path) -> list[str]:
    """One line for every result table that is missing or differs, and in what."""
    lines = []
    tables = sorted(path.relative_to(before) for path in before.rglob("results.parquet"))
    if not tables:
        return [f"no results.parquet below {before}"]
    for table in tables:
        old, new = before / table, after / table
        if not new.is_file():
            lines.append(f"{table}: missing")
        elif old.read_bytes() != new.read_bytes():
            lines.append(f"{table}: {_unlike(pl.read_parquet(old), pl.read_parquet(new))}")
    return lines


def _unlike(old: pl.DataFrame, new: pl.DataFrame) -> str:
    if old.columns != new.columns:
        return f"other columns: {sorted(set(old.columns) ^ set(new.columns)) or 'their order'}"
    if len(old) != len(new):
        return f"{len(old)} rows before, {len(new)} after"
    unlike = [name for name in old.columns if not old[name].equals(new[name])]
    return f"other values of {', '.join(unlike)}" if unlike else "equal values in other bytes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("out", type=Path)
    making.add_argument("--faces", type=Path, help="LFW, prepared")
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    given = parser.parse_args()
    if given.command == "make":
        make(given.out.resolve(), given.faces and given.faces.resolve())
        return
    lines = differences(given.before, given.after)
    print("\n".join(lines) or "every result table is the same to the byte")
    sys.exit(1 if lines else 0)


if __name__ == "__main__":
    main()
