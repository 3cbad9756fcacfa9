"""GPUs of this machine: how a process gets one for itself, how much memory is free, and whether an error means none is.

All of it asks torch, which takes seconds to import: only who has a network on a GPU comes by here.
"""

from __future__ import annotations

import os

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Environment variable that says which GPUs a process sees; it is read when the process first uses one."""

_FULL = ("out of memory", "ALLOC_FAILED")
"""What CUDA's own libraries say where torch raises no error of a class of its own."""


def gpus() -> tuple[str, ...]:
    """Return for each GPU that this process sees what `VISIBLE` has to be for a process to see that one alone."""
    import torch

    count = torch.cuda.device_count()
    listed = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return tuple(listed[:count]) if listed else tuple(str(number) for number in range(count))


def free_bytes() -> int:
    """Return the free memory of the first GPU, in bytes, without what this process holds back for later."""
    import torch

    release()
    return int(torch.cuda.mem_get_info()[0])


def release() -> None:
    """Give back the memory that this process holds and does not use; nothing without a GPU."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_full(error: BaseException) -> bool:
    """Say whether an error means that the memory of the GPU did not suffice."""
    import torch

    return isinstance(error, torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL)
    )
