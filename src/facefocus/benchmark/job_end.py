"""The end of a job's time: a worker leaves before it, so that no task is cut off.

A queueing system such as Slurm ends a job at its walltime, whatever it does.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import psutil
from distributed.core import Status

#: The last part of a job's time, in which its workers begin no task.
LAST = 0.1
#: Seconds between two looks at whether the last task is through.
PAUSE = 0.2


def leave_in_time(worker: Any, walltime: float) -> Any:
    """Let a worker of Dask leave when the last part of its job's time begins.

    Args:
        worker: The worker.
        walltime: Seconds of the job.

    Returns:
        What ``worker.loop.remove_timeout`` takes back.
    """
    # A job begins with its nanny, who starts a worker anew that was killed.
    began = psutil.Process(os.getppid()).create_time()
    left = began + walltime * (1 - LAST) - time.time()
    return worker.loop.call_later(max(left, 0.0), leave, worker)


async def leave(worker: Any) -> None:
    """End a worker once its task is through and its result fetched; it gets no other one."""
    worker.status = Status.closing_gracefully  # the scheduler is told
    while worker.state.executing_count or worker.data:
        await asyncio.sleep(PAUSE)
    await worker.close(reason="its job ends soon")
