"""Tension and harmonic fills against a dense oracle, and their edge rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from pyamg.aggregation import smoothed_aggregation_solver
from scipy import ndimage, sparse

from pipeline.fills import _graph, harmonic, tension
from pipeline.fills._graph import build
from pipeline.fills.base import FillSpec, Prepared, Window
from pipeline.numerics import solve as solver
from pipeline.numerics.solve import solve, solve_planar


def oracle(values, usable, hole, weights, t):
    """Solve the same energy with dense matrices: float64 `spatial`."""
    index = np.arange(values.size).reshape(values.shape)
    laplacian = np.zeros((values.size, values.size))
    for axis, weight in enumerate(weights):
        a = np.moveaxis(index, axis, 0)[1:].ravel()
        b = np.moveaxis(index, axis, 0)[:-1].ravel()
        both = usable.ravel()[a] & usable.ravel()[b]
        for i, j in zip(a[both], b[both], strict=True):
            laplacian[[i, j], [i, j]] += weight
            laplacian[[i, j], [j, i]] -= weight
    energy = (1 - t) * laplacian + t * laplacian @ laplacian
    inside, known = hole.ravel(), (usable & ~hole).ravel()
    result = values.astype(np.float64).ravel().copy()
    result[inside] = np.linalg.solve(energy[np.ix_(inside, inside)], -energy[np.ix_(inside, known)] @ result[known])
    return result.reshape(values.shape)


@pytest.mark.parametrize("t", [0.0, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("isotropic", [False, True])
@pytest.mark.parametrize(
    ("shape", "spacing"), [((14, 17), (1.0, 1.0)), ((14, 17), (3.0, 2.0)), ((7, 8, 9), (5.5, 1.0, 1.0))]
)
def test_tension_is_the_exact_minimum(t, isotropic, shape, spacing):
    """Border holes, scattered holes, never-touch pixels, anisotropy: equal to dense algebra."""
    rng = np.random.default_rng(3)
    values = rng.normal(0, 1, shape).astype(np.float32)
    hole = rng.random(shape) < 0.3
    hole[:4, :5] = True
    usable = np.ones(shape, bool)
    usable[-3:, :2] = False
    usable[6, 6] = False
    hole &= usable
    window = Window(values=values[None], valid=(usable & ~hole)[None], hole=hole[None], spacing=spacing)
    weights = [1.0 if isotropic else (min(spacing) / s) ** 2 for s in spacing]
    expected = oracle(values, usable, hole, weights, t)
    assert np.allclose(tension.fill(window, t=t, isotropic=isotropic)[0][hole], expected[hole], atol=2e-6)


def test_harmonic_is_tension_zero_and_keeps_the_range():
    """The membrane obeys the maximum principle, and the thin module adds nothing."""
    rng = np.random.default_rng(0)
    values = rng.uniform(10, 20, (1, 40, 40)).astype(np.float32)
    hole = rng.random(values.shape) < 0.6
    window = Window(values=values, valid=~hole, hole=hole, spacing=(1.0, 1.0))
    result = harmonic.fill(window)
    assert np.array_equal(result, tension.fill(window, t=0.0))
    assert result.min() >= values[~hole].min()
    assert result.max() <= values[~hole].max()


def test_channels_with_the_same_mask_do_not_mix():
    """Solving channels together or alone gives the same values to rounding."""
    rng = np.random.default_rng(1)
    values = rng.normal(500, 50, (3, 24, 24)).astype(np.float32)
    hole = np.zeros(values.shape, bool)
    hole[:, 5:14, 6:20] = True
    hole[1, 20:22] = True
    together = tension.fill(Window(values=values, valid=~hole, hole=hole, spacing=(1.0, 1.0)))
    for k in range(3):
        part = slice(k, k + 1)
        alone = tension.fill(Window(values=values[part], valid=~hole[part], hole=hole[part], spacing=(1.0, 1.0)))
        assert np.allclose(together[k], alone[0], atol=1e-3)


def test_each_component_is_exact_on_its_own_constant_rim():
    """Two holes whose rims have different values: both come out exactly constant."""
    values = np.full((1, 20, 30), 0.1, np.float32)
    values[:, :, 15:] = 12345.67
    hole = np.zeros(values.shape, bool)
    hole[:, 5:10, 3:8] = True
    hole[:, 5:15, 20:26] = True
    result = tension.fill(Window(values=values, valid=~hole, hole=hole, spacing=(1.0, 1.0)))
    assert np.array_equal(result, values)


def test_a_component_behind_never_touch_pixels_gets_mean_or_guess():
    """An isolated hole has no rim: the mean of the valid pixels, or the guess if there is one."""
    values = np.full((1, 12, 12), 4.0, np.float32)
    values[:, :6] = 2.0
    hole = np.zeros(values.shape, bool)
    hole[:, 9, 9] = True
    never = np.zeros(values.shape, bool)
    never[:, 8:11, 8:11] = True
    never &= ~hole
    valid = ~hole & ~never
    window = Window(values=values, valid=valid, hole=hole, spacing=(1.0, 1.0))
    assert tension.fill(window)[0, 9, 9] == pytest.approx(values[valid].mean())
    guess = np.full(values.shape, 9.0, np.float32)
    guessed = Window(values=values, valid=valid, hole=hole, spacing=(1.0, 1.0), guess=guess)
    assert tension.fill(guessed)[0, 9, 9] == 9.0


def test_hole_pixels_at_open_edges_are_held_at_the_guess():
    """Two pixels from a cut edge keep the guess; an image edge stays natural."""
    values = np.zeros((1, 16, 16), np.float32)
    hole = np.zeros(values.shape, bool)
    hole[:, 4:12] = True
    window = Window(
        values=values,
        valid=~hole,
        hole=hole,
        spacing=(1.0, 1.0),
        guess=np.full(values.shape, 5.0, np.float32),
        open_edges=((False, False), (True, False)),
    )
    result = tension.fill(window)[0]
    assert (result[4:12, :2] == 5.0).all()
    assert np.abs(result[4:12, -2:]).max() < 0.5
    assert 0 < result[8, 3] < 5.0


def test_neighbouring_windows_agree_if_the_guess_is_the_whole_solution():
    """A window cut from the image, held at the whole image's fill, reproduces it."""
    rng = np.random.default_rng(5)
    values = rng.normal(0, 1, (1, 40, 40)).astype(np.float32)
    hole = np.zeros(values.shape, bool)
    hole[:, 10:30, 5:36] = True
    whole = tension.fill(Window(values=values, valid=~hole, hole=hole, spacing=(1.0, 1.0)))
    cut = (slice(None), slice(5, 35), slice(12, 30))
    part = Window(
        values=values[cut],
        valid=~hole[cut],
        hole=hole[cut],
        spacing=(1.0, 1.0),
        guess=whole[cut],
        open_edges=((True, True), (True, True)),
    )
    assert np.allclose(tension.fill(part), whole[cut], atol=1e-5)


def test_tension_outside_its_range_is_refused():
    """The message names the value."""
    values = np.zeros((1, 4, 4), np.float32)
    window = Window(values=values, valid=values == 0, hole=values != 0, spacing=(1.0, 1.0))
    with pytest.raises(ValueError, match=r"t = 1\.5"):
        tension.fill(window, t=1.5)


def test_an_indefinite_matrix_is_an_error_not_a_wrong_answer():
    """The solver says so when it cannot converge."""
    matrix = sparse.csr_array(np.diag(np.array([1.0, -2.0, 3.0] * 30)) + 0.1)
    with pytest.raises(ArithmeticError, match="unsolved"):
        solve(matrix, np.full((90, 1), np.nan))


def test_a_start_does_not_change_the_answer():
    """A guess speeds up the iteration and nothing else."""
    rng = np.random.default_rng(8)
    values = rng.normal(100, 9, (1, 30, 30)).astype(np.float32)
    hole = np.zeros(values.shape, bool)
    hole[:, 6:24, 6:24] = True
    cold = Window(values=values, valid=~hole, hole=hole, spacing=(1.0, 1.0))
    guess = rng.normal(0, 1e4, values.shape).astype(np.float32)
    warm = Window(values=values, valid=~hole, hole=hole, spacing=(1.0, 1.0), guess=guess)
    assert np.allclose(tension.fill(cold), tension.fill(warm), atol=1e-4)


@pytest.mark.realdata
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_tension_beats_harmonic_on_scattered_holes_of_a_real_tile(data_dir, share):
    """Sentinel-2, Lazio: at least half a decibel less error, mean over bands."""
    with rasterio.open(data_dir / "satellite/s2_cr_lazio/ROIs1868_summer_s2_102_p100.tif") as source:
        truth = source.read([2, 3, 4, 8], window=((0, 128), (0, 128))).astype(np.float32)
    hole = np.broadcast_to(np.random.default_rng(0).random(truth.shape[1:]) < share, truth.shape)
    window = Window(values=np.where(hole, 0, truth), valid=~hole, hole=hole, spacing=(1.0, 1.0))
    errors = [np.square(f - truth).mean(axis=(1, 2)) for f in (harmonic.fill(window), tension.fill(window))]
    assert np.mean(10 * np.log10(errors[0] / errors[1])) > 0.5


@pytest.mark.parametrize("at_once", [60_000, 40, 5])
def test_planes_solved_directly_agree_with_iterating(at_once, monkeypatch):
    """Factorised whole, in groups of parts, or (parts too large) not at all: the same solution, zeros stay zeros."""
    hole = np.zeros((40, 44), dtype=bool)
    hole[3:9, 4:12] = hole[20:26, 8:13] = hole[30:33, 30:40] = hole[12, 30] = True
    system = build(hole, np.ones_like(hole), (1.0, 1.0), 0.9)
    right = np.random.default_rng(0).normal(size=(len(system.unknown), 3))
    right[:, 1] = 0.0
    monkeypatch.setattr(solver, "DIRECT", at_once)
    direct = solve_planar(system.inner, right)
    assert np.allclose(direct, solve(system.inner, right), rtol=0, atol=1e-5)
    assert not direct[:, 1].any()


def test_wide_holes_of_volumes_take_half_of_the_iterations_with_their_root():
    """The answer is that of the equations themselves."""
    hole = np.pad(np.ones((16, 18, 20), bool), 3)
    system = build(hole, np.ones_like(hole), (1.0, 1.0, 1.0), 0.95)
    expected = np.random.default_rng(0).normal(0, 1, (int(hole.sum()), 2)).cumsum(axis=0)
    counts, plate = [], system.inner
    written = 0.05 * plate.there[: len(expected)] + 0.95 * (plate.back @ plate.there)
    for matrix, root in ((written, None), (plate, system.root)):
        count = iter(range(1000))
        found = solve(matrix, written @ expected, meanwhile=lambda count=count: next(count), root=root)
        counts.append(next(count))
        assert np.allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert counts[1] < counts[0] / 2


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0)])
def test_wide_holes_of_volumes_are_those_of_the_equations_written_down(spacing, monkeypatch):
    """Two holes a voxel apart and one at an edge, with a constant channel: the same to the last digits of float32."""
    hole = np.zeros((26, 24, 22), dtype=bool)
    hole[3:11, 3:12, 3:14] = hole[12:20, 4:14, 4:15] = hole[14:, 16:, 4:12] = True
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(0, 1, hole.shape), np.full(hole.shape, 3.25)]).astype(np.float32)
    holes = np.broadcast_to(hole, values.shape)
    window = Window(values=np.where(holes, np.float32(0), values), valid=~holes, hole=holes, spacing=spacing)
    asked = []
    monkeypatch.setattr(tension, "solve", lambda *of, **how: (asked.append(how["root"]), solve(*of, **how))[1])
    plate = tension.fill(window, t=0.95)
    monkeypatch.setattr(_graph, "_WIDE", 1.0)
    written = tension.fill(window, t=0.95)
    assert asked[0] is not None
    assert asked[1] is None
    assert np.allclose(plate, written, rtol=0, atol=2e-6)
    assert (plate[1] == np.float32(3.25)).all()


def _wide(channels=1, *, rough, shape=(30, 30, 30)):
    """Return a window of a smooth volume with a cube hidden, and the volume."""
    truth = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(channels, *shape)), (0, 2, 2, 2))
    truth = truth.astype(np.float32)
    hole = np.zeros(truth.shape, dtype=bool)
    hole[:, 6:24, 6:24, 6:24] = True
    values = np.where(hole, np.float32(0), truth)
    return Window(values=values, valid=~hole, hole=hole, spacing=(1.0, 1.0, 1.0), rough=rough), truth


def test_a_rough_fill_of_a_volume_takes_fewer_iterations_and_differs_by_far_less_than_its_error(monkeypatch):
    """Of an image it is the same to the last bit."""
    window, truth = _wide(rough=False)
    hole = window.hole
    counts, made = [], []
    for rough in (False, True):
        count = iter(range(1000))
        monkeypatch.setattr(tension, "stop_if_asked", lambda count=count: next(count))
        made.append(tension.fill(replace(window, rough=rough), t=0.95))
        counts.append(next(count))
    error, change = (np.sqrt(np.square(part[hole]).mean()) for part in (made[0] - truth, made[1] - made[0]))
    assert counts[1] < 0.7 * counts[0]
    assert 0 < change < 0.01 * error

    flat = Window(values=window.values[:, 12], valid=window.valid[:, 12], hole=window.hole[:, 12], spacing=(1.0, 1.0))
    assert tension.fill(flat).tobytes() == tension.fill(replace(flat, rough=True)).tobytes()


def test_tensions_that_are_only_compared_share_coarse_grids_and_differ_by_far_less_than_their_error(monkeypatch):
    """The first is that of a fill alone to the last bit, whatever comes after; the others take less of everything."""
    window, truth = _wide(rough=True)
    hole = window.hole
    made, cycles = [], []
    setup, cycle = solver.Multigrid.__init__, solver.Multigrid.__call__

    def counted(self, right, depth=0):
        cycles[-1] += depth == 0
        return cycle(self, right, depth)

    monkeypatch.setattr(
        solver.Multigrid, "__init__", lambda self, matrix: (made.append(matrix), setup(self, matrix))[1]
    )
    monkeypatch.setattr(solver.Multigrid, "__call__", counted)
    prepared, found, alone = Prepared(window), {}, {}
    for t in (0.95, 0.8, 0.5):
        cycles.append(0)
        found[t] = prepared.filled(FillSpec("tension", {"t": t}))
    assert len(made) == 1
    for t in (0.95, 0.8):
        cycles.append(0)
        alone[t] = tension.fill(window, t=t)
    assert found[0.95].tobytes() == alone[0.95].tobytes()
    assert cycles[1] < cycles[4]
    for t in (0.8, 0.5):
        exact = tension.fill(replace(window, rough=False), t=t)
        error, change = (np.sqrt(np.square(part[hole]).mean()) for part in (exact - truth, found[t] - exact))
        assert 0 < change < 0.01 * error


def test_tensions_of_what_is_restored_share_no_result():
    """Nor do those of volumes whose channels have different holes: memory would hold them all."""
    exact, _ = _wide(rough=False)
    prepared = tension.Prepared(exact)
    for t in (0.95, 0.8, 0.5):
        assert prepared(t=t).tobytes() == tension.fill(exact, t=t).tobytes()

    several, _ = _wide(2, rough=True)
    hole = several.hole.copy()
    hole[1, 6] = False
    several = replace(several, hole=hole)
    prepared = tension.Prepared(several)
    for t in (0.95, 0.8):
        assert prepared(t=t).tobytes() == tension.fill(several, t=t).tobytes()


def test_a_cycle_is_moved_to_another_matrix_on_the_same_coarse_grids():
    """Level by level its matrices are those that the same prolongations make of that matrix."""
    hole = np.pad(np.random.default_rng(0).random((14, 16, 18)) < 0.8, 3)
    matrix = build(hole, np.ones_like(hole), (2.0, 1.0, 1.0), 0.0).inner
    other = 0.7 * matrix + 0.3 * sparse.eye_array(matrix.shape[0])
    moved = solver.Multigrid(matrix).moved(0.7, 0.3)
    assert len(moved._levels) > 1
    for level in moved._levels:
        assert np.allclose(level.matrix.toarray(), other.toarray(), rtol=0, atol=1e-5)
        assert level.bound == pytest.approx((abs(other).sum(axis=1) / other.diagonal()).max(), rel=1e-5)
        other = level.restrict.astype(np.float64) @ other @ level.prolong.astype(np.float64)
    right = np.random.default_rng(1).normal(size=(matrix.shape[0], 1))
    whole = 0.7 * matrix + 0.3 * sparse.eye_array(matrix.shape[0], format="csr")
    assert np.allclose(solve(whole, right, cycle=moved), solve(whole, right), rtol=0, atol=1e-6)


def test_multigrid_is_the_one_that_pyamg_sets_up():
    """Level by level the matrices of PyAMG's own smoothed aggregation, in float32."""
    hole = np.pad(np.random.default_rng(0).random((14, 16, 18)) < 0.8, 3)
    matrix = build(hole, np.ones_like(hole), (2.0, 1.0, 1.0), 0.9).inner
    theirs = smoothed_aggregation_solver(
        matrix,
        strength=("symmetric", {"theta": 0.0}),
        smooth=("jacobi", {"omega": 4.0 / 3.0, "weighting": "local"}),
        improve_candidates=None,
        max_coarse=40,
    ).levels
    ours = solver.Multigrid(matrix)._levels
    assert len(ours) == len(theirs) - 1 > 1
    for own, level in zip(ours, theirs, strict=False):
        for part, other in ((own.matrix, level.A), (own.prolong, level.P), (own.restrict, level.R)):
            assert np.array_equal(part.toarray(), other.toarray().astype(np.float32))


@pytest.mark.parametrize(("rows", "t"), [(2, 0.95), (16, 0.5)])
def test_lost_slices_and_membranes_have_no_root(rows, t):
    """Their equations take few iterations as they are."""
    hole = np.zeros((24, 16, 16), bool)
    hole[4 : 4 + rows] = True
    assert build(hole, np.ones_like(hole), (1.0, 1.0, 1.0), t).root is None
    assert build(hole[:, 0], np.ones_like(hole[:, 0]), (1.0, 1.0), 0.95).root is None
