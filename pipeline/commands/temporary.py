"""Survey an image without leaving anything: all that a survey writes goes to a temporary folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pipeline.orders import Order
from pipeline.plan.job import Job
from pipeline.plan.workdir import WorkFolder


@contextmanager
def temporary_job(order: Order) -> Iterator[Job]:
    """Give the job of an order with a work folder that is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="inpaint-plan-") as folder:
        job = order.job
        guides = tuple(replace(g, source=replace(g.source, staged=folder)) for g in job.guides)
        source = replace(job.source, staged=folder)
        yield replace(job, work=WorkFolder(Path(folder)), source=source, guides=guides)
