"""Lists what a card can do, by its name: memory, bandwidth, compute capability, matrix rate.

For GPUs that are not here, and for what NVML does not tell of those that are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from evaluation.toolbench.inference.multi_gpu.units import GIB, MIB


@dataclass(frozen=True)
class Card:
    """Describes a card: `name` as people write it, `memory_mib` as the driver lists it, then its datasheet."""

    name: str
    memory_mib: int
    bandwidth: float  # bytes per second
    compute_capability: tuple[int, int]
    flops: float  # dense bf16 (fp16 below 8.0) matrix products with float32 sums, operations per second


def _card(name: str, memory_mib: int, gb_per_s: float, capability: str, tflops: float) -> Card:
    major, minor = capability.split(".")
    return Card(name, memory_mib, gb_per_s * 1e9, (int(major), int(minor)), tflops * 1e12)


# Bandwidth and matrix rates: NVIDIA's datasheet of each card, and for GeForce cards the tables in the appendices of
# the Turing, GA102, Ada and Blackwell architecture whitepapers. Rates given "with sparsity" are halved.
CARDS = (
    _card("T4", 15_360, 320, "7.5", 65),
    _card("V100-16GB", 16_384, 900, "7.0", 125),
    _card("V100-32GB", 32_768, 900, "7.0", 125),
    _card("RTX2080Ti", 11_264, 616, "7.5", 53.8),
    _card("RTX3090", 24_576, 936, "8.6", 71),
    _card("RTX4090", 24_564, 1008, "8.9", 165.2),
    _card("RTX5090", 32_607, 1792, "12.0", 209.5),
    _card("A10", 23_028, 600, "8.6", 125),
    _card("L4", 23_034, 300, "8.9", 121),
    _card("A30", 24_576, 933, "8.0", 165),
    _card("RTXA6000", 49_140, 768, "8.6", 154.8),
    _card("A40", 46_068, 696, "8.6", 149.7),
    _card("RTX6000Ada", 49_140, 960, "8.9", 364.2),
    _card("L40S", 46_068, 864, "8.9", 362),
    _card("A100-40GB", 40_960, 1555, "8.0", 312),
    _card("A100-80GB", 81_920, 2039, "8.0", 312),
    _card("H20", 97_871, 4000, "9.0", 148),
    _card("H100", 81_559, 3350, "9.0", 989),
    _card("H100-PCIe", 81_559, 2000, "9.0", 756),
    _card("H200", 143_771, 4800, "9.0", 989),
    _card("B200", 183_359, 8000, "10.0", 2250),
)
# Names of the same card: the vendor's words around it, and variants for other markets.
_WORDS = ("NVIDIA", "GEFORCE", "TESLA", "GENERATION", "SXM5", "SXM4", "SXM3", "SXM2", "SXM", "HBM3E", "HBM3", "HBM2E")
_SAME = {
    "A100": "A100-80GB",
    "A100PCIE40GB": "A100-40GB",
    "A10080GBPCIE": "A100-80GB",
    "A800": "A100-80GB",
    "A80080GB": "A100-80GB",
    "A80080GBPCIE": "A100-80GB",
    "A6000": "RTXA6000",
    "H10080GB": "H100",
    "H800": "H100",
    "V100": "V100-32GB",
    "V100PCIE16GB": "V100-16GB",
    "V100PCIE32GB": "V100-32GB",
}
_TYPICAL = ("T4", "RTX4090", "A100-40GB", "L40S", "A100-80GB", "H200")  # of their size, where only that is known


def card_named(name: str) -> Card | None:
    """Returns the card that `name` means, as a person or the driver writes it; None for one that is not listed.

    >>> card_named("rtx 4090").name, card_named("NVIDIA A100-SXM4-40GB").name, card_named("Voodoo") is None
    ('RTX4090', 'A100-40GB', True)
    """
    letters = _letters(name)
    for word in _WORDS:
        letters = letters.replace(word, "")
    by_letters = {_letters(card.name): card for card in CARDS}
    same = _SAME.get(letters)
    return by_letters.get(letters) or by_letters.get(f"RTX{letters}") or (by_letters[_letters(same)] if same else None)


def typical_card(total_bytes: int) -> Card:
    """Returns the card whose speeds stand in for those of a GPU of which only the memory is known.

    >>> typical_card(24 * 2**30).name, typical_card(80 * 2**30).name
    ('RTX4090', 'A100-80GB')
    """
    known = [card for card in CARDS if card.name in _TYPICAL]
    return min(known, key=lambda card: abs(card.memory_mib * MIB - total_bytes) / GIB)


def _letters(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", name.upper())
