"""Losses: balanced over samples, blind outside the holes."""

from __future__ import annotations

import pytest
import torch

from pipeline.training.losses import losses


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(3, 16, 16, generator=generator) * torch.tensor([0.2, 1.0, 3.0])[:, None, None]
    hole = (torch.rand(3, 16, 16, generator=generator) < 0.4).float()
    return target, hole


def test_doing_nothing_costs_nothing():
    """The base fill itself is the unit of fit and gradient."""
    target, hole = _batch()
    terms = losses(torch.zeros(3, 2, 16, 16), target, hole)
    assert float(terms.fit) == pytest.approx(0.0, abs=1e-6)
    assert float(terms.gradient) == pytest.approx(0.0, abs=1e-6)


def test_the_truth_is_best_and_outside_does_not_count():
    """Whatever is predicted on observed pixels is ignored."""
    target, hole = _batch()
    output = torch.stack([torch.where(hole > 0, target, torch.tensor(99.0)), torch.zeros_like(target)], 1)
    terms = losses(output, target, hole)
    assert float(terms.fit) < -5
    assert float(terms.gradient) < -5


def test_easy_and_hard_samples_weigh_the_same():
    """Halving the error of one sample helps as much whichever it is."""
    target, hole = _batch()
    helped = []
    for i in (0, 1):
        output = torch.zeros(3, 2, 16, 16)
        output[i, 0] = target[i] / 2
        helped.append(-float(losses(output, target, hole).fit))
    assert helped[0] == pytest.approx(helped[1], rel=0.25)


def test_a_sample_the_fill_solves_does_not_drown_the_others():
    """Being wrong where the fill was nearly exact costs a few units, not hundreds."""
    target, hole = _batch()
    target[0] *= 1e-3
    output = torch.zeros(3, 2, 16, 16)
    output[0, 0] = 0.5
    assert 0 < float(losses(output, target, hole).fit) < 4


def test_the_best_scale_is_the_mean_absolute_error():
    """The Laplace likelihood is smallest at b = mean |error|, and leaves the mean alone."""
    target, hole = _batch()
    right = (target.abs() * hole).flatten(1).sum(1) / hole.flatten(1).sum(1)
    scores = []
    for factor in (0.5, 1.0, 2.0):
        output = torch.zeros(3, 2, 16, 16)
        output[:, 1] = torch.log(right * factor)[:, None, None]
        output.requires_grad_()
        terms = losses(output, target, hole)
        scores.append(float(terms.likelihood.detach()))
    terms.likelihood.backward()
    assert scores[1] < min(scores[0], scores[2])
    assert not output.grad[:, 0].any()
    assert output.grad[:, 1].any()
