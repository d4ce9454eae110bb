"""Names the number formats in which a model is held and computed, as flags do. Light: imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.toolbench.inference.engine.kv_format import check_kv_cache
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.inference.multi_gpu.gpu_config import AUTO

EIGHT_BIT = ("int8", "fp8")
WEIGHTS = (AUTO, *EIGHT_BIT)  # as `--weights` gives them
FORMATS = ("weights", "kv_cache")  # flags that hold something in other numbers than the checkpoint's


@dataclass(frozen=True)
class NumberFormats:
    """Keep what --dtype, --weights and --kv_cache say. ConfigError for formats that nobody knows.

    `weights` are those of the decoder's linear layers; embedding, head and norms are in `dtype`. "auto" is `dtype`
    there too, or what a checkpoint holds that is quantised already. `kv_cache` is the format of keys and values.
    """

    dtype: str = AUTO
    weights: str = AUTO
    kv_cache: str = AUTO

    def __post_init__(self) -> None:
        check_weights(self.weights)
        check_kv_cache(self.kv_cache)

    @property
    def flags(self) -> str:
        """Return what to pass for them, beside --dtype."""
        return f"--weights {self.weights}" + (f" --kv_cache {self.kv_cache}" if self.kv_cache != AUTO else "")

    @property
    def in_words(self) -> str:
        """Say in which formats the model is: "bfloat16", or "bfloat16, weights in fp8, KV cache in fp8"."""
        weights = f", weights in {self.weights}" if self.weights in EIGHT_BIT else ""
        return self.dtype + weights + (f", KV cache in {self.kv_cache}" if self.kv_cache != AUTO else "")


def check_weights(weights: str) -> None:
    """Raise ConfigError for a name that is not one of WEIGHTS."""
    if weights not in WEIGHTS:
        raise ConfigError(f"weights={weights!r} is not one of {', '.join(WEIGHTS)}")


def require_own_weights(weights: str, *, engine: str = AUTO, cpu_offloading: bool = False) -> None:
    """Raise ConfigError where a format is asked for and the weights are a server's, or may lie on the CPU."""
    if weights != AUTO and engine == "server":
        raise ConfigError(
            f"--weights {weights} with --engine server: the server holds the weights, and its own options say in "
            "which format (vLLM: --quantization fp8)"
        )
    if weights != AUTO and cpu_offloading:
        raise ConfigError(
            f"--weights {weights} with --cpu_offloading: layers on the CPU are not quantised; in 8 bits the model "
            "may fit without it, otherwise leave --weights out"
        )
