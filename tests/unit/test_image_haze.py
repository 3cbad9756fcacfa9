"""What hazy pixels tell: values without what lies over them, each kind by its spectrum; others as they are."""

from types import SimpleNamespace

import numpy as np

from pipeline.geometry.box import Box
from pipeline.image.haze import without_haze
from pipeline.masks.base import DOUBT, HAZY, KEEP


class _Amounts(SimpleNamespace):
    """Amounts as an array of the work folder gives them."""

    def __getitem__(self, at):
        return self.amounts[at]


def test_cloud_and_shadow_are_taken_off_each_by_its_own_spectrum():
    """A cloud added, a shadow took away; doubted and clear pixels keep their values."""
    states = np.array([[[HAZY, HAZY, DOUBT, KEEP]]], np.uint8)
    amounts = np.array([[[2, 0, 5, 0]], [[0, 3, 0, 5]]], np.float32)
    haze = _Amounts(amounts=amounts, attrs={"spectrum": [[100.0, 10.0], [-20.0, -30.0]]})
    values = np.array([[[1200, 940, 1, 2]], [[520, 410, 3, 4]]], np.uint16)
    found = without_haze(values, states, haze, Box.whole((1, 4)))
    assert found.tolist() == [[[1000, 1000, 1, 2]], [[500, 500, 3, 4]]]
