"""Where the time of a run went, from lines of a log that were written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from facefocus.benchmark.run_log import RUN_LOG, RunLog
from facefocus.benchmark.run_profile import Part, run_profile
from tests.conftest import Command


def line(time: float, event: str, **about: Any) -> str:
    return json.dumps({"time": time, "event": event, **about}) + "\n"


def spent(time: float, part: str, seconds: float, processor: float) -> str:
    return line(time, "spent", part=part, seconds=seconds, processor=processor)


def end(time: float, stage: str, processor: float, passes: int, images: tuple[int, int]) -> str:
    return line(
        time, "end", stage=stage, key="k", worker="w", seconds=1.0, processor=processor,
        passes=passes, images=images[0], padded=images[1],
    )  # fmt: skip


#: Killed in its scores at 19.5; begun again at 100, when only scores were left.
LOG = (
    line(10, "start", host="h", process=1)
    + spent(10, "start", 3.0, 2.5)
    + spent(10, "plan", 0.5, 0.5)
    + line(10, "stage", stage="embed", tasks=2, passes=30)
    + end(12, "embed", 3.0, 20, (32, 12))
    + end(14, "embed", 2.0, 10, (16, 6))
    + line(15, "stage", stage="oracle", tasks=0, passes=0)
    + line(15, "stage", stage="scores", tasks=3, passes=9)
    + end(18, "scores", 5.0, 3, (16, 0))
    + line(19.5, "begin", stage="scores", key="k", worker="w")
    + line(100, "start", host="h", process=2)
    + spent(100, "plan", 0.25, 0.25)
    + line(100, "stage", stage="scores", tasks=2, passes=6)
    + end(102, "scores", 1.0, 3, (16, 0))
    + end(104, "scores", 1.0, 3, (16, 1))
    + spent(107, "collect", 2.0, 1.5)
    + line(107, "finish")
    + spent(200, "page", 4.0, 3.0)
)


def test_seconds_and_passes_of_every_part(tmp_path: Path) -> None:
    (tmp_path / RUN_LOG).write_text(LOG)
    assert run_profile(tmp_path) == [
        Part("start", 3.0, 2.5),
        Part("plan", 0.75, 0.75),
        Part("embed", 5.0, 5.0, 2, 30, 48, 18),
        # 15 to 19.5, and 100 to 105, when collecting began.
        Part("scores", 9.5, 7.0, 3, 9, 48, 1),
        Part("collect", 2.0, 1.5),
        Part("page", 4.0, 3.0),
    ]


def test_it_is_printed_for_a_run_folder_and_its_variants(command: Command, tmp_path: Path) -> None:
    for variant in "ab":
        (tmp_path / variant).mkdir()
        (tmp_path / variant / "run.json").write_text("{}")
        (tmp_path / variant / RUN_LOG).write_text(LOG)
    done = command("status", str(tmp_path), "--profile")
    assert done.code == 0
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == [
        "part",
        "seconds",
        "of",
        "processors",
        "share",
        "tasks",
        "passes",
        "embedded",
    ]
    assert ["scores", "19.00", "14.00", "35.4", "%", "6", "18", "96"] in lines
    assert lines[-1] == ["all", "48.50", "39.50"]


def test_a_folder_without_a_log(command: Command, tmp_path: Path) -> None:
    done = command("status", str(tmp_path), "--profile")
    assert done.code == 2 and "has no run.log that tells of work" in done.err


def test_what_was_handed_in_gets_no_log(tmp_path: Path) -> None:
    with RunLog(tmp_path).timed("page"):
        pass
    assert not (tmp_path / RUN_LOG).exists()
