"""`trainer.precision=auto`: bfloat16 where the device multiplies it natively, else float32.

Weights, sums and the optimizer stay in float32 ("mixed"). What a step then takes is measured by
`benchmarks/attention.py --bfloat16`.
"""

import torch

AUTO = "auto"


def chosen(asked: str, accelerator: str) -> str:
    """What Lightning is told: `asked` itself, but for `auto`.

    >>> chosen("32-true", "cpu")
    '32-true'
    """
    if asked != AUTO:
        return asked
    if accelerator != "cpu" and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = (accelerator == "cpu" or not torch.backends.mps.is_available()) and processor_multiplies_bfloat16()
    return "bf16-mixed" if native else "32-true"


def processor_multiplies_bfloat16() -> bool:
    """AVX512-BF16 or AMX. False where this release of torch cannot tell."""
    asked = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(ask() for ask in asked if ask is not None)
