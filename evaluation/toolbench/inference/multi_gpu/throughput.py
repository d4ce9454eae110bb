"""Predicts how fast a replica answers: a model of a step's time on each GPU and on the host. Pure.

A batch of conversations passes the replica's GPUs one after another, several batches follow each other, and the
slowest GPU, or the host that plans and launches every step, sets the pace. The constants are fitted to what was
measured with the 8B shape (benchmarks/README.md; `tests/multi_gpu/test_throughput.py` has the rows): one, two, three
and four H200s and one and two H100s, 1 to 128 conversations, all within 17%, with weights in int8 within 19%.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

# Shares of the vendor's figures that a step reaches. (Copies alone reach 0.87 of an H200's bandwidth and large matrix
# products 0.77 of its rate; a step's products are smaller, and steps are not all alike.)
_BANDWIDTH_SHARE = 0.74
_FLOPS_SHARE = 0.50
_DRAWING_S = 0.1e-3  # where the head is, beside reading it: the best id of each row (measured: 0.5 ms both, on an H200)
_LAYER_S = 0.03e-3  # of a layer, beside memory and arithmetic: norms, small kernels, gaps
_HOP_S = 0.05e-3  # handing a batch's hidden states to the next GPU
_UNEVENNESS = 0.04  # of the slowest GPU's time, for each further GPU: batches differ, and GPUs wait for one another
_OVERLAP = 4  # exponent: of two that work at the same time the slower one sets the pace, and a little is lost to both
_QUANTIZING_TOKENS = 64  # of a step, on average: activations of fewer often stay in 16 bits, see `ProductCosts`
_MIX = 2  # exponent: matrix products of few rows wait for memory, of many for arithmetic, in between for either


@dataclass(frozen=True)
class ProductCosts:
    """Describe what products with a decoder's weights cost in one number format."""

    item_bytes: int = 2  # of a weight, as it is stored
    rate: float = 1.0  # of the card's matrix rate for 16 bits
    layer_s: float = 0.0  # of a layer, beside that, where a step is large enough that activations are quantised


# fp8: measured on an H200, products of 32 layers (milliseconds; bfloat16 in brackets): 16 rows 2.67 (3.92), 512 rows
# 5.34 (9.61), 1,024 rows 9.94 (21.4), and 0.4 to 1.3 for bringing activations of more than 16 rows to float8.
# int8: in the same way, 64 rows 4.41 (4.21), 512 rows 15.0 (9.50), 1,024 rows 24.0 (18.4). A weight is read once and
# brought to 16 bits in registers: the rate of products of 16 bits suffers from the instructions for that. Cards before
# Ampere unpack weights in memory, which moves five bytes for each: there this promises too much.
_EIGHT_BIT = {
    "int8": ProductCosts(item_bytes=1, rate=0.65),
    "fp8": ProductCosts(item_bytes=1, rate=1.9, layer_s=0.05e-3),
}


def product_costs(weights: str, item_bytes: int) -> ProductCosts:
    """Return those of `weights` ("int8", "fp8"), or of weights in the model's dtype, of `item_bytes`."""
    return _EIGHT_BIT.get(weights) or ProductCosts(item_bytes)


@dataclass(frozen=True)
class HostCosts:
    """Says what the engine's thread takes to plan, launch and read a step, in seconds: `base_s`, `row_s` a sequence."""

    base_s: float = 0.4e-3
    row_s: float = 0.008e-3


@dataclass(frozen=True)
class StageCosts:
    """Describes a GPU's part of a model, and what the GPU can do."""

    bandwidth: float  # of its memory, bytes per second, by the datasheet
    flops: float  # dense matrix products in the model's dtype, operations per second, by the datasheet
    layer_bytes: int  # weights of its decoder layers, read once a step
    head_bytes: int  # of the output embedding, which multiplies drawn rows only
    kv_bytes_per_token: int
    num_layers: int
    products: ProductCosts = field(default_factory=ProductCosts)
    streamed_s: float = 0.0  # for weights that come over from main memory in every step

    def seconds(self, rows: float, read_per_drawn: float, mean_tokens: float) -> float:
        """Return the time of a step in which `rows` sequences of `mean_tokens` draw a token and prompts are read."""
        bandwidth = self.bandwidth * _BANDWIDTH_SHARE
        products = self.products
        reading = self.layer_bytes / bandwidth
        tokens = rows * (1 + read_per_drawn)
        rate = self.flops * _FLOPS_SHARE * products.rate
        computing = 2 * tokens * self.layer_bytes / products.item_bytes / rate
        return (
            _combined(reading, computing, _MIX)
            + (self.head_bytes + rows * mean_tokens * self.kv_bytes_per_token) / bandwidth
            + self.num_layers * (_LAYER_S + products.layer_s * min(1.0, tokens / _QUANTIZING_TOKENS))
            + _DRAWING_S * (self.head_bytes > 0)
            + self.streamed_s
        )


def tokens_per_s(
    stages: Sequence[StageCosts],
    running: float,
    *,
    read_per_drawn: float,
    mean_tokens: float,
    host: HostCosts | None = None,
) -> float:
    """Return the tokens drawn per second while `running` conversations are dealt to one batch for each stage."""
    host = host or HostCosts()
    batches = max(1, min(len(stages), int(running)))
    rows = running / batches
    seconds = [stage.seconds(rows, read_per_drawn, mean_tokens) for stage in stages]
    round_s = sum(seconds) + _HOP_S * (len(stages) - 1)  # of a batch through all GPUs
    unevenness = _UNEVENNESS * (len(stages) - 1) * (batches > 1)
    on_gpus = max(round_s / batches, max(seconds) * (1 + unevenness))
    on_host = host.base_s + host.row_s * rows
    return rows / _combined(on_gpus, on_host, _OVERLAP)


def _combined(one: float, other: float, exponent: int) -> float:
    """Return the larger of two, and more where they are alike."""
    return float((one**exponent + other**exponent) ** (1 / exponent))
