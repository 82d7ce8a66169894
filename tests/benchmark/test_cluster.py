"""Many workers: what fails is set aside, what dies is done elsewhere, and no byte differs."""

from __future__ import annotations

import errno
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import pytest

from facefocus.benchmark import execute as execute_module
from facefocus.benchmark import session as session_module
from facefocus.benchmark import task_outcome as outcome_module
from facefocus.benchmark import worker_pool as pool_module
from facefocus.benchmark.clusters import (
    ClusterFile,
    cluster_of,
    devices_of,
    gpus,
    most_workers,
    seconds_of,
)
from facefocus.benchmark.execute import Incomplete
from facefocus.benchmark.job_end import leave
from facefocus.benchmark.run import run_experiment, run_status
from facefocus.benchmark.run_lock import locked_run
from facefocus.benchmark.run_log import read_log
from facefocus.benchmark.session import Session
from facefocus.benchmark.stages.explain import MapTask
from facefocus.benchmark.worker_pool import Pool
from facefocus.core.artefact_files import unpacked
from facefocus.core.errors import UserError
from facefocus.core.progress import Progress
from facefocus.core.store import Store
from tests.conftest import Command
from tests.small import paint_faceset, tiny_recognizer, workers_here

EXPERIMENT = """
name = "small"
[faces]
set = "painted"
[recognizers]
source = ["a", "b"]
[[saliency]]
method = "grad-cam"
[occlusion]
budget = 0.1
"""


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFOCUS_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(
        session_module, "load", lambda name, _: tiny_recognizer(name, "ab".index(name))
    )
    paint_faceset(tmp_path / "painted")
    (tmp_path / "small.toml").write_text(EXPERIMENT)
    return tmp_path


@pytest.fixture(scope="module")
def workers() -> Iterator[Pool]:
    with workers_here(2) as pool:
        yield pool


def run(out: str, **options: Any) -> bytes:
    """The result table of the small experiment."""
    folder = run_experiment(
        Path("small.toml"), faces=Path("painted"), out=Path(out), backend="torch", **options
    )
    return (folder / "results.parquet").read_bytes()


def failing(monkeypatch: pytest.MonkeyPatch, most: int, error: type[Exception]) -> list[str]:
    """Make the maps of one block fail, at most some times; returns their keys as they are tried."""
    plain, tried = outcome_module.run_task, []

    def run_task(session: Session, task: Any, progress: Progress) -> tuple[int, int]:
        if isinstance(task, MapTask):
            tried.append(task.keys[0])
            if (
                task.block.index == 1
                and task.sources == ("b",)
                and tried.count(task.keys[0]) <= most
            ):
                raise error("no such face")
        return plain(session, task, progress)

    monkeypatch.setattr(outcome_module, "run_task", run_task)
    return tried


def test_a_task_that_fails_three_times_is_set_aside_and_tried_first_the_next_time(
    workers: Pool, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    expected = run("here", store=work / "other store")
    with monkeypatch.context() as patch:
        tried = failing(patch, 99, KeyError)
        with pytest.raises(Incomplete, match=r"1 task failed, and 2 others need what") as stopped:
            run("run", cluster=workers)
    assert stopped.value.code == 3
    assert not Path("run/results.parquet").exists()
    (failed,) = map(json.loads, Path("run/failed.jsonl").read_text().splitlines())
    assert failed["stage"] == "maps"
    assert failed["error"].endswith("in run_task: KeyError: 'no such face'")
    assert 'raise error("no such face")' in failed["traceback"]
    assert tried.count(failed["key"]) == 3
    counts = {stage.stage: (stage.done, stage.total) for stage in run_status(Path("run"))}
    assert counts == {"embed": (14, 14), "maps": (3, 4), "scores": (4, 8)}
    # Two recognizers, two blocks: three of four maps, and their scores on both.
    ended = [line for line in read_log(Path("run")) if line["event"] == "end"]
    assert [sum(line["stage"] == name for line in ended) for name in ("maps", "scores")] == [3, 2]
    assert all(line["seconds"] >= 0 and line["passes"] > 0 and line["worker"] for line in ended)
    with monkeypatch.context() as patch:
        tried = failing(patch, 0, KeyError)
        assert run("run", cluster=workers) == expected
    assert tried == [failed["key"]]
    assert not Path("run/failed.jsonl").exists()


def test_a_task_that_fails_twice_is_done_the_third_time(
    workers: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, 2, OSError)
    run("run", cluster=workers)
    failed = [line for line in read_log(Path("run")) if line["event"] == "failed"]
    assert [line["attempt"] for line in failed] == [1, 2]
    assert all("OSError" in line["traceback"].splitlines()[-1] for line in failed)


def test_workers_of_a_scheduler_that_was_started_anew_are_told_again(
    workers: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, done = outcome_module.run_task, []

    def run_task(session: Session, task: Any, progress: Progress) -> tuple[int, int]:
        images = plain(session, task, progress)
        done.append(task.stage)
        if done.count("maps") == 2:
            pool_module._jobs.clear()
        return images

    monkeypatch.setattr(outcome_module, "run_task", run_task)
    run("run", cluster=workers)
    assert len(done) == 2 + 4 + 8 - 4
    assert not [line for line in read_log(Path("run")) if line["event"] == "failed"]


#: What `slowly` was called for, and by which worker.
CALLS: list[tuple[int, Any]] = []


def slowly(number: int) -> int:
    CALLS.append((number, distributed.get_worker().name))
    time.sleep(0.3)
    return number


def test_a_worker_whose_job_ends_finishes_its_task_and_begins_no_other() -> None:
    with workers_here(2) as pool:
        futures = [pool.client.submit(slowly, n, pure=False) for n in range(8)]
        leaving = pool.client.cluster.workers[0]
        futures[0].result()
        leaving.loop.add_callback(leave, leaving)
        begun = sum(name == leaving.name for _, name in CALLS)
        assert [future.result() for future in futures] == list(range(8))
        # It leaves once all that it made is fetched.
        futures.clear()
        deadline = time.monotonic() + 60
        while leaving.status != distributed.Status.closed:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    # None was begun twice, also not that which ran while its worker was told to leave.
    assert sorted(number for number, _ in CALLS) == list(range(8))
    assert sum(name == leaving.name for _, name in CALLS) <= begun + 1


def test_one_process_goes_on_after_a_failing_task_as_workers_do(
    monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    expected = run("here", store=work / "other store")
    with monkeypatch.context() as patch:
        tried = failing(patch, 99, KeyError)
        with pytest.raises(Incomplete, match=r"1 task failed, and 2 others need what"):
            run("run")
    (failed,) = map(json.loads, Path("run/failed.jsonl").read_text().splitlines())
    assert (failed["worker"], tried.count(failed["key"])) == ("this process", 3)
    order = [line["event"] for line in read_log(Path("run")) if line.get("stage") == "maps"]
    assert order == ["stage", *["begin", "end"] * 3, *["begin", "failed"] * 3]
    with monkeypatch.context() as patch:
        tried = failing(patch, 0, KeyError)
        assert run("run") == expected
    assert tried == [failed["key"]] and not Path("run/failed.jsonl").exists()


def test_where_every_task_fails_the_run_stops_with_one_line(
    workers: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_task(*_: object) -> None:
        raise ZeroDivisionError("nothing works")

    monkeypatch.setattr(outcome_module, "run_task", run_task)
    with pytest.raises(UserError, match="ZeroDivisionError: nothing works") as stopped:
        run("run", cluster=workers)
    assert stopped.value.code == 2 and "in run_task" in str(stopped.value.__cause__)


def test_a_full_disk_in_a_worker_is_one_line(
    workers: Pool, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("facefocus.core.files.atomic_file", full)
    with pytest.raises(UserError, match=r"Cannot write '.*': the disk is full. Nothing written"):
        run("run", cluster=workers)


# --- the run folder -------------------------------------------------------------------------------


def test_two_runs_of_one_folder_are_refused(work: Path) -> None:
    with (
        locked_run(work / "run"),
        pytest.raises(UserError, match=r"'run' is being worked on by process \d+ on .* since .*T"),
    ):
        run("run")
    run("run")  # a lock that nobody holds stands in nobody's way


def test_status_says_how_fast_a_run_goes_and_why_it_stopped(command: Command, work: Path) -> None:
    def lines(at: float, *events: dict[str, Any]) -> str:
        return "".join(
            json.dumps({"time": at + n, **event}) + "\n" for n, event in enumerate(events)
        )

    folder = work / "run"
    run("run", store=folder / "store")
    next(folder.glob("store/*.pack")).unlink()
    table = folder / "results.parquet"
    table.unlink()
    start = {"event": "start", "host": "a", "process": 1}
    stage = {"event": "stage", "stage": "maps", "tasks": 4, "passes": 400}
    begun = [{"event": "begin", "stage": "maps", "key": key, "worker": "0"} for key in "ab"]
    end = {"event": "end", "key": "a", "worker": "0", "seconds": 2, "passes": 100}
    workers = {"event": "workers", "count": 2}
    (folder / "run.log").write_text(lines(100.0, start, stage, workers, *begun, end))
    with locked_run(folder):
        output = command("status", str(folder)).out.splitlines()
    # 100 passes in 4 seconds; 300 are left.
    assert output[-2] == (
        "working on maps: 2 workers, 1 tasks running, 25.0 passes/s, about 0:12 left of this stage"
    )
    with (folder / "run.log").open("a") as file:
        file.write(lines(200.0, {"event": "stop", "reason": "the disk is full"}))
    output = command("status", str(folder)).out.splitlines()
    assert output[-2:] == ["stopped in maps: the disk is full", "results not yet"]


def test_a_store_is_cleared_of_what_no_run_needs_and_joined_with_another(
    command: Command, work: Path
) -> None:
    own = run("run", store=work / "kept")
    (work / "small.toml").write_text(EXPERIMENT.replace("0.1", "0.2"))
    run("other", store=work / "kept")
    both = Store(work / "kept").size().artefacts
    output = command("store", "gc", str(work / "run"), "--store", str(work / "kept"), "--yes").out
    # Of the other budget only the scores are its own: two recognizers' maps on both, two blocks.
    assert output.startswith("removed 8 artefacts")
    assert Store(work / "kept").size().artefacts == both - 8
    output = command("store", "merge", str(work / "kept"), "--store", str(work / "new")).out
    assert output.strip() == f"{both - 8} new, 0 here already, 0 damaged and left out"
    (pack,) = work.glob("new/*.pack")
    data = bytearray(pack.read_bytes())
    data[100] ^= 1
    pack.write_bytes(data)
    first = next(unpacked(pack.name, bytes(data)))[0]
    output = command("store", "verify", "--store", str(work / "new")).out
    assert output.splitlines()[0] == f"damaged {first}" and not pack.exists()
    (work / "small.toml").write_text(EXPERIMENT)
    assert run("again", store=work / "new") == own


def test_a_store_in_a_bucket_gives_the_same_bytes(
    command: Command, workers: Pool, work: Path, bucket: str
) -> None:
    expected, store = run("here", store=work / "kept"), f"{bucket}/store"
    assert run("run", store=store, cluster=workers) == expected
    assert json.loads(Path("run/run.json").read_text())["store"] == store
    assert all(stage.done == stage.total > 0 for stage in run_status(Path("run")))
    size = Store(store).size()
    # Two recognizers: embeddings, maps of two blocks, scores of these on both.
    assert size.files == 2 + 2 * 2 + 2 * 2 and size.artefacts == Store("kept").size().artefacts
    output = command("store", "size", "--store", store).out
    assert (
        output.startswith(f"{size.artefacts} artefacts in {size.files} files") and store in output
    )
    output = command("store", "merge", store, "--store", str(work / "copy")).out
    assert output.startswith(f"{size.artefacts} new, 0 here already")
    files = Store(store)._files
    name = min(files.names())
    files.write(name, files.read(name)[:-1])  # none of what it holds can be found
    assert run("again", store=store) == expected
    assert Store(store).size() == size


# --- what --cluster says --------------------------------------------------------------------------


def test_a_cluster_is_named_by_a_number_an_address_or_a_file(work: Path) -> None:
    assert most_workers(cluster_of("local:3")) == 3
    assert cluster_of("tcp://10.0.0.1:8786") == "tcp://10.0.0.1:8786"
    lines = ['kind = "slurm"', "workers = 2", "jobs = [1, 20]", 'queue = "gpu"', "cores = 8"]
    Path("c.toml").write_text("\n".join(lines))
    cluster = cluster_of("c.toml")
    assert isinstance(cluster, ClusterFile)
    assert (cluster.most, cluster.threads, cluster.queue) == (40, 4, "gpu")


def test_a_walltime_is_read_as_slurm_reads_it() -> None:
    # man sbatch: minutes, minutes:seconds, hours:minutes:seconds, days-hours, ...
    forms = {"90": 5400, "2:30": 150, "1:00:05": 3605, "1-2": 93600, "1-2:30": 95400}
    assert {form: seconds_of(form) for form in forms} == forms
    assert seconds_of("2-00:00:01") == 172801 and seconds_of("UNLIMITED") is None


def test_workers_of_one_machine_share_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices_of(4, gpus()) == ["0", "1", "2", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert devices_of(2, gpus()) == ["4", "7"]
    assert devices_of(2, []) == [None, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("local:0", r"The '--cluster' must be local:N .* Got 'local:0'"),
        ("slurm", r"The '--cluster' must be .* Got 'slurm'"),
        ("none.toml", "Cannot read the cluster file 'none.toml'"),
        ('kind = "slum"', "The 'kind' of the cluster file must be one of .* Did you mean 'slurm'"),
        ('kind = "local"\nworker = 2', "has no field 'worker'.*Did you mean 'workers'"),
        ('kind = "ssh"\nhosts = ["a"]', "The 'hosts' of the cluster file must name .* Got hosts ="),
        ('kind = "slurm"\njobs = [3, 2]', r"The 'jobs' of the cluster file must be .*Got \[3, 2\]"),
        (
            'kind = "slurm"\nwalltime = "4h"',
            "The 'walltime' of the cluster file must be .*Got '4h'",
        ),
    ],
)
def test_a_wrong_cluster_is_one_line(text: str, message: str) -> None:
    if "=" in text:
        Path("c.toml").write_text(text)
        text = "c.toml"
    with pytest.raises(UserError, match=message):
        cluster_of(text)


def test_without_dask_several_processes_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"pip install 'facefocus\[cluster\]'"):
        run("run", workers=2)
    run("run")


def test_a_run_ends_where_no_worker_of_this_machine_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(execute_module, "GIVEN_UP", 0.5)
    with workers_here(1) as pool:
        pool.client.cluster.scale(0)
        with pytest.raises(UserError, match=r"No worker process of this machine starts"):
            run("run", cluster=pool)


def test_a_scheduler_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "CONNECT", 0.2)
    with pytest.raises(UserError, match=r"No Dask scheduler answers at 'tcp://127.0.0.1:9'"):
        run("run", cluster="tcp://127.0.0.1:9")
