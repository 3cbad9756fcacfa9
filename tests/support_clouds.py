"""A stand-in for OmniCloudMask: the same function, thresholds instead of a network."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

_PACKAGE = '''
import os
from pathlib import Path

import numpy as np


def predict_from_array(input_array, *, no_data_value, inference_device, destination_model_dir):
    """Thick cloud above 900 in red, shadow below 50 in near infrared, as far as it knows its weights."""
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert (no_data_value, inference_device, input_array.dtype) == (0, "cpu", np.float32)
    if destination_model_dir is None and not Path(__file__).with_name("weights.safetensors").exists():
        raise OSError("we are offline")
    red, green, nir = input_array
    seen = np.where(red > 900, 1, np.where((nir < 50) & (nir > 0), 3, 0))
    return np.where(red == 0, 0, seen)[np.newaxis].astype(np.uint8)
'''


def stand_in(folder: Path, patch: pytest.MonkeyPatch, *, weights: bool = True) -> None:
    """Make `import omnicloudmask` find the stand-in, with or without weights where the package keeps them."""
    package = folder / "omnicloudmask"
    package.mkdir()
    (package / "__init__.py").write_text(_PACKAGE)
    if weights:
        (package / "weights.safetensors").touch()
    patch.syspath_prepend(folder)
    patch.delitem(sys.modules, "omnicloudmask", raising=False)
    patch.setenv("HF_HUB_OFFLINE", "0")
