"""What `verify` accepts in the source layer: the codes that the plan can give, each with its uncertainty."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.output.verify import codes_and_uncertainty, observed_pixels
from pipeline.plan.plan import Plan
from pipeline.plan.refs import GuideRef, SourceRef
from pipeline.restore.codes import CLASSICAL, NETWORK, NEVER_TOUCHED, OBSERVED, REFERENCE, REFUSED, SEVERAL
from pipeline.system.threads import threaded
from pipeline.testing import ArraySource, raster_space
from tests.unit.test_block_values import SHAPE, _plan


def _with(references: int, n_state: int = 1) -> Plan:
    guide = GuideRef(source=SourceRef(kind="geotiff", paths=("other.tif",)))
    channels = tuple(range(n_state))
    return replace(_plan(), guides=(guide,) * references, channels=channels, n_state=n_state)


def _check(plan: Plan, codes: list[int], sigma: float | None = None):
    """Check a source layer that holds `codes`, one a pixel, the rest observed, with the uncertainty they ask for."""
    origin = np.full((plan.n_state, *SHAPE), OBSERVED, dtype=np.uint8)
    origin.reshape(plan.n_state, -1)[:, : len(codes)] = codes
    full = np.broadcast_to(origin, (len(plan.channels), *SHAPE))
    due = np.where(full == OBSERVED, 0.0, np.where(full == NEVER_TOUCHED, np.nan, 3.0 if sigma is None else sigma))
    restored = {str(c): plan.n_state for c in codes if c not in (OBSERVED, NEVER_TOUCHED)}
    return codes_and_uncertainty(
        plan,
        ArraySource(values=due.astype(np.float32), space=raster_space(SHAPE)),
        ArraySource(values=origin, space=raster_space(SHAPE)),
        restored,
    )


@pytest.mark.parametrize(
    ("references", "n_state", "codes"),
    [
        (0, 1, [CLASSICAL, NETWORK, REFUSED, NEVER_TOUCHED]),
        (2, 1, [CLASSICAL, REFERENCE, REFERENCE + 1]),
        (0, 2, [CLASSICAL, REFERENCE]),
        (2, 2, [REFERENCE, REFERENCE + 1, REFERENCE + 2]),
    ],
)
def test_codes_of_the_plan_hold(references, n_state, codes):
    """Every code a plan can give: fills, network, its references, other channels where the holes differ, refusal."""
    check = _check(_with(references, n_state), codes)
    assert check.held, check.detail


@pytest.mark.parametrize(
    ("references", "n_state", "wrong"),
    [
        (0, 1, REFERENCE),
        (2, 1, REFERENCE + 2),
        (0, 2, REFERENCE + 1),
        (2, 2, REFERENCE + 3),
        (2, 2, 200),
        (2, 1, NETWORK + 1),
        (2, 1, REFERENCE - 1),
        (1, 1, SEVERAL),
    ],
)
def test_a_code_that_the_plan_cannot_give_does_not_hold(references, n_state, wrong):
    """One reference too many, other channels where all have the same holes, and numbers that mean nothing."""
    check = _check(_with(references, n_state), [CLASSICAL, wrong])
    assert not check.held
    assert f", {n_state} without a consistent source" in check.detail


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_a_restored_pixel_needs_a_positive_uncertainty(sigma):
    """Zero, negative or unknown: the pixel would pass for observed, or for never touched."""
    check = _check(_with(1), [REFERENCE], sigma)
    assert not check.held
    assert ", 1 without a consistent source" in check.detail


def test_counts_must_be_those_of_the_record():
    """A layer with other restored pixels than the record counts does not hold."""
    plan = _with(0)
    layers = [
        ArraySource(values=np.zeros((1, *SHAPE), dtype), space=raster_space(SHAPE)) for dtype in ("float32", "uint8")
    ]
    assert codes_and_uncertainty(plan, *layers, {}).held
    assert not codes_and_uncertainty(plan, *layers, {"classical": 1}).held


@pytest.mark.parametrize("threads", [1, 3])
def test_every_observed_pixel_is_compared(threads):
    """In all windows, whoever looks at them; what was restored may differ."""
    space = raster_space((600, 1100))
    before = np.zeros((1, 600, 1100), dtype=np.uint8)
    origin, after = np.full_like(before, OBSERVED), before.copy()
    origin[0, 500:520, 1000:1050] = CLASSICAL
    after[origin == CLASSICAL] = 7
    plan = replace(_plan(), space=space)
    for wrong, place in enumerate([None, (0, 0), (599, 1099), (520, 1049)]):
        if place:
            after[0][place] = 1
        with threaded(threads):
            check = observed_pixels(plan, *(ArraySource(values=v, space=space) for v in (before, after, origin)))
        assert check.held == (wrong == 0)
        assert check.detail == f"{wrong} of {600 * 1100 - 1000} observed pixels differ"
