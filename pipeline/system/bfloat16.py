"""Whether this processor computes in bfloat16; one that imitates it takes 10 to 20 times as long as with float32."""

from __future__ import annotations

_ABILITIES = ("avx512_bf16", "amx_bf16", "bf16")


def has_bfloat16() -> bool:
    """Say whether the processor has instructions for it. Imports torch."""
    import torch

    abilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(abilities.get(name, False) for name in _ABILITIES)
