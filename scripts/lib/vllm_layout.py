"""Says how scripts/serve_vllm.sh lays a checkpoint over the visible GPUs. Runs in the Python that has vLLM.

    python vllm_layout.py MODEL_PATH MAX_MODEL_LEN

Prints: GPUs, tensor parallel size, pipeline parallel size, longest conversation.
"""

from __future__ import annotations

import sys
from pathlib import Path


def parallel_sizes(num_gpus: int, num_heads: int, num_kv_heads: int, num_layers: int) -> tuple[int, int]:
    """Return (tensor, pipeline) parallel sizes whose product is the number of GPUs, as much tensor parallel as can be.

    Tensor parallel parts get equal shares of the attention heads, and either equal shares of the key-value heads or
    copies of them; where that does not come out even, layers are shared out instead.

    >>> parallel_sizes(3, 32, 8, 32), parallel_sizes(4, 32, 8, 32), parallel_sizes(6, 32, 8, 32)
    ((1, 3), (4, 1), (2, 3))
    """
    for tensor in range(num_gpus, 0, -1):
        comes_out = num_gpus % tensor == 0 and num_heads % tensor == 0
        if comes_out and max(num_kv_heads, tensor) % min(num_kv_heads, tensor) == 0:
            pipeline = num_gpus // tensor
            if pipeline <= num_layers:
                return tensor, pipeline
    raise ValueError(f"{num_gpus} GPUs are too many for {num_layers} layers: set CUDA_VISIBLE_DEVICES to fewer")


def main(model_path: str, max_model_len: int) -> int:
    if model_path.startswith((".", "/", "~")) and not Path(model_path).is_dir():
        print(f"no model folder {model_path}: set MODEL_PATH to a checkpoint", file=sys.stderr)
        return 2
    import torch
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(model_path).get_text_config()
        num_heads = int(config.num_attention_heads)
        num_kv_heads = int(getattr(config, "num_key_value_heads", None) or num_heads)
        num_gpus = torch.cuda.device_count()
        sizes = parallel_sizes(max(num_gpus, 1), num_heads, num_kv_heads, int(config.num_hidden_layers))
    except (OSError, ValueError, AttributeError) as error:
        print(f"cannot serve {model_path}: {' '.join(str(error).split())[:300]}", file=sys.stderr)
        return 2
    print(num_gpus, *sizes, min(max_model_len, int(config.max_position_embeddings)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
