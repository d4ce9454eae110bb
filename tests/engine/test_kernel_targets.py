"""Every Triton kernel compiles for every generation of cards, within the shared memory that the card has. No GPU is
needed: Triton compiles for any target, and brings its own assembler."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from evaluation.toolbench.inference.engine.attention import (
    triton_copy,
    triton_decode,
    triton_parts,
    triton_prefill,
    triton_split,
    triton_write,
)
from evaluation.toolbench.inference.engine.kernels import triton_probe
from evaluation.toolbench.inference.engine.kernels.hardware import is_old_capability
from evaluation.toolbench.inference.engine.products import triton_few_rows, triton_many_rows
from evaluation.toolbench.inference.engine.products.tiles import INT8_TILES, TILES, choose_tile

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# Bytes of shared memory that one block may use, by compute capability (CUDA C++ Programming Guide, "Compute
# Capabilities", maximum amount per thread block).
LIMITS = {
    (7, 5): 65_536,
    (8, 0): 166_912,
    (8, 6): 101_376,
    (8, 9): 101_376,
    (9, 0): 232_448,
    (10, 0): 232_448,
    (12, 0): 101_376,
}
NAMES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}
POINTERS_TO_INT64 = ("slots", "table", "copies")
POINTERS_TO_INT32 = ("block_tables", "context_lens", "cu_seqlens_q")
POINTERS_TO_FLOAT32 = ("parts", "partial", "log_sum", "k_scales", "v_scales", "scale")
POINTERS_TO_8_BITS = {"int8": "*i8", "fp8": "*u8"}
CONVERT_FLOAT8 = (8, 9)  # the first with such instructions
WITHOUT_SCALES = {"k_scales": None, "v_scales": None}
SCALE_SLOTS = {"k_scale_slot": 1, "v_scale_slot": 1}  # a head's scales in a page lie one after another
NOT_SPECIALISED = (
    *("table_row", "block_tables", "context_lens", "cu_seqlens_q", "batch", "programs", "max_parts", "num_parts"),
    "num_rows",
)
PAGE_SIZE = 64


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """What is compiled here is compiled, not remembered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


def compiled(
    kernel: Any,
    capability: tuple[int, int],
    dtype: torch.dtype,
    constants: dict,
    *,
    is_float8: bool = False,
    held: str = "16 bits",
    **options: int | None,
) -> Any:
    """`kernel`, compiled as its launch would."""
    signature = {}
    if "k_scales" in kernel.arg_names:
        constants = constants | (SCALE_SLOTS if is_float8 else WITHOUT_SCALES)
    for name in kernel.arg_names:
        if name in constants:
            signature[name] = "constexpr"
        elif name in POINTERS_TO_INT32:
            signature[name] = "*i32"
        elif name in POINTERS_TO_FLOAT32:
            signature[name] = "*fp32"
        elif name in POINTERS_TO_INT64:
            signature[name] = "*i64"
        elif name in ("k_cache", "v_cache") and is_float8:
            signature[name] = "*u8"
        elif name == "weight" and held in POINTERS_TO_8_BITS:
            signature[name] = POINTERS_TO_8_BITS[held]
        elif name in ("q", "k", "v", "k_cache", "v_cache", "out", "inputs", "weight", "bias"):
            signature[name] = f"*{NAMES[dtype]}"
        else:
            signature[name] = "fp32" if name == "scale_log2" else "i32"
    # As a launch finds them: tensors begin at 16 bytes, and strides are multiples of 16.
    aligned = {
        (index,): [["tt.divisibility", 16]]
        for index, (name, kind) in enumerate(signature.items())
        if kind not in ("constexpr", "fp32") and name not in NOT_SPECIALISED
    }
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    target = GPUTarget("cuda", 10 * capability[0] + capability[1], 32)
    return triton.compile(source, target=target, options=options)


def shared_bytes(*arguments: Any, **options: Any) -> int:
    """Compile a kernel so, and what it needs of shared memory."""
    return int(compiled(*arguments, **options).metadata.shared)


def prefill_bytes(capability, dtype, head_dim, group=4, total=512, *, is_split=False, is_float8=False):
    tile = triton_prefill.choose_tile(total, head_dim, dtype.itemsize, is_old_capability(capability))
    group_tile = triton.next_power_of_2(group)
    constants = {
        "SPLIT": is_split,
        "ROWS": 16,
        "PAGE_SIZE": PAGE_SIZE,
        "GROUP": group,
        "GROUP_TILE": group_tile,
        "HEAD_DIM": head_dim,
        "HEAD_TILE": triton.next_power_of_2(head_dim),
        "SMALLEST_PART": 4,
        "BLOCK_Q": max(1, tile.rows // group_tile),
        "BLOCK": tile.tokens,
        "IS_NATIVE": capability >= CONVERT_FLOAT8,
    }
    options = {"num_warps": tile.num_warps, "num_stages": tile.num_stages, "maxnreg": tile.max_registers}
    return shared_bytes(triton_prefill._attend_tile, capability, dtype, constants, is_float8=is_float8, **options)


def split_prefill_bytes(capability, dtype, head_dim):
    return prefill_bytes(capability, dtype, head_dim, is_split=True)


def float8_prefill_bytes(capability, dtype, head_dim):
    return prefill_bytes(capability, dtype, head_dim, is_split=True, is_float8=True)


def decode_bytes(capability, dtype, head_dim, group=4, *, is_float8=False):
    tile = triton_decode.choose_tile(head_dim, dtype.itemsize, is_old_capability(capability), is_float8)
    constants = {
        "SPLIT": True,
        "PAGE_SIZE": PAGE_SIZE,
        "GROUP": group,
        "GROUP_TILE": 16,
        "HEAD_DIM": head_dim,
        "HEAD_TILE": triton.next_power_of_2(head_dim),
        "BLOCK": tile.tokens,
        "IS_NATIVE": capability >= CONVERT_FLOAT8,
    }
    options = {"num_warps": tile.num_warps, "num_stages": tile.num_stages}
    return shared_bytes(triton_decode._attend_part, capability, dtype, constants, is_float8=is_float8, **options)


def float8_decode_bytes(capability, dtype, head_dim):
    return decode_bytes(capability, dtype, head_dim, is_float8=True)


def join_bytes(capability, dtype, head_dim):
    """The more of what decodes and prompts need."""
    return max(_join_bytes(capability, dtype, head_dim, heads, parts) for heads, parts in ((1, 32), (8, 8)))


def _join_bytes(capability, dtype, head_dim, heads, parts):
    constants = {"HEADS": heads, "PARTS_TILE": parts, "HEAD_DIM": head_dim, "HEAD_TILE": head_dim}
    return shared_bytes(triton_parts._join_parts, capability, dtype, constants, is_float8=False, num_warps=2)


def write_bytes(capability, dtype, head_dim):
    constants = {"PAGE_SIZE": PAGE_SIZE, "NUM_HEADS": 8, "HEAD_DIM": head_dim, "TILE": 8 * head_dim}
    return shared_bytes(triton_write._write_token, capability, dtype, constants, is_float8=False, num_warps=4)


def float8_write_bytes(capability, dtype, head_dim):
    constants = {"PAGE_SIZE": PAGE_SIZE, "NUM_HEADS": 8, "HEADS_TILE": 8, "HEAD_DIM": head_dim, "HEAD_TILE": head_dim}
    return shared_bytes(triton_write._write_float8_token, capability, dtype, constants, is_float8=True, num_warps=4)


def compiled_copy(capability, dtype, word_bytes):
    element, per_word = triton_copy.ELEMENTS[word_bytes]
    constants = {"WORD_BYTES": word_bytes, "ELEMENT": element, "PER_WORD": per_word, "BLOCK": triton_copy.BLOCK}
    return compiled(triton_copy._copy_page, capability, dtype, constants, num_warps=triton_copy.NUM_WARPS)


def copy_bytes(capability, dtype, head_dim):
    """The most for words of all sizes."""
    return max(compiled_copy(capability, dtype, word).metadata.shared for word in triton_copy.ELEMENTS)


def probe_bytes(capability, dtype, head_dim):
    return shared_bytes(triton_probe._copy_numbers, capability, torch.float32, {"SIZE": 16})


def few_rows_bytes(capability, dtype, head_dim, held="16 bits"):
    """What the largest tile of each kind needs of those that are chosen for such a card; nothing where cuBLAS is."""
    largest = {tile.is_summed: tile for tile in sorted(few_rows_tiles(capability, held, head_dim), key=_size_of)}
    return max((_few_rows_bytes(capability, dtype, held, tile) for tile in largest.values()), default=0)


def few_rows_tiles(capability, held, head_dim):
    """The tiles that are chosen for such a card; none where cuBLAS is."""
    is_old = is_old_capability(capability)
    sizes = [(rows, features) for _, rows in TILES for features in (32 * head_dim, 224 * head_dim)]
    return {choose_tile(held, rows, features, 32 * head_dim, on_old_card=is_old) for rows, features in sizes} - {None}


def _size_of(tile):
    return (tile.rows + tile.features) * tile.inputs * tile.num_stages


def _few_rows_bytes(capability, dtype, held, tile):
    constants = {
        "IS_FLOAT8": held == "fp8",
        "IS_NATIVE": capability >= CONVERT_FLOAT8,
        "IS_EVEN": False,  # takes more than even
        "ROWS": tile.rows,
        "FEATURES": tile.features,
        "INPUTS": tile.inputs,
        "PARTS": tile.num_warps,
        "STAGES": tile.num_stages,
        "IS_SUMMED": tile.is_summed,
    }
    if held == "16 bits":
        constants["scale"] = None
    options = {"num_warps": tile.num_warps}
    return shared_bytes(triton_few_rows._multiply, capability, dtype, constants, held=held, **options)


def int8_few_rows_bytes(capability, dtype, head_dim):
    return few_rows_bytes(capability, dtype, head_dim, "int8")


def float8_few_rows_bytes(capability, dtype, head_dim):
    return few_rows_bytes(capability, dtype, head_dim, "fp8")


def many_rows_bytes(capability, dtype, head_dim):
    """The same of tiles for many rows; nothing where PyTorch unpacks weights."""
    largest = {tile.splits > 1: tile for tile in sorted(many_rows_tiles(capability, head_dim), key=_size_of)}
    return max((_many_rows_bytes(capability, dtype, tile) for tile in largest.values()), default=0)


def many_rows_tiles(capability, head_dim):
    """The tiles that are chosen for such a card; none where PyTorch unpacks weights."""
    is_old, limit = is_old_capability(capability), LIMITS[capability]
    sizes = [(rows, features) for rows in INT8_TILES for features in (32 * head_dim, 224 * head_dim)]
    return {
        choose_tile("int8", rows, features, 32 * head_dim, on_old_card=is_old, shared_bytes=limit)
        for rows, features in sizes
    } - {None}


def _many_rows_bytes(capability, dtype, tile):
    constants = {
        "IS_EVEN": True,  # takes as much as odd, and is what models have
        "ROWS": tile.rows,
        "FEATURES": tile.features,
        "INPUTS": tile.inputs,
        "STAGES": tile.num_stages,
        "SPLITS": tile.splits,
    }
    options = {"num_warps": tile.num_warps}
    return shared_bytes(triton_many_rows._multiply_many, capability, dtype, constants, held="int8", **options)


def add_parts_bytes(capability, dtype, head_dim):
    constants = {"FEATURES": 1024, "SPLITS": 4}
    return shared_bytes(triton_many_rows._add_parts, capability, dtype, constants, num_warps=4)


FLOAT8 = [float8_prefill_bytes, float8_decode_bytes, float8_write_bytes]
FEW_ROWS = [few_rows_bytes, int8_few_rows_bytes, float8_few_rows_bytes]
FORMS = [
    prefill_bytes,
    split_prefill_bytes,
    decode_bytes,
    join_bytes,
    write_bytes,
    copy_bytes,
    probe_bytes,
    *FLOAT8,
    *FEW_ROWS,
    many_rows_bytes,
    add_parts_bytes,
]


# The largest of each form: smaller heads and fewer tokens take less.
LARGEST = [
    (prefill_bytes, torch.float16, 128),
    (prefill_bytes, torch.bfloat16, 128),
    (split_prefill_bytes, torch.bfloat16, 128),
    (prefill_bytes, torch.bfloat16, 256),
    (prefill_bytes, torch.float32, 256),
    (decode_bytes, torch.float16, 128),
    (decode_bytes, torch.bfloat16, 256),
    (decode_bytes, torch.float32, 256),
    (join_bytes, torch.bfloat16, 256),
    (write_bytes, torch.float32, 256),
    *((needed, dtype, 256) for needed in FLOAT8 for dtype in (torch.bfloat16, torch.float32)),
]


each_card = pytest.mark.parametrize("capability", LIMITS, ids=lambda pair: f"{pair[0]}.{pair[1]}")


# Most kernels take seconds, so that some pairs are left for a long run. These cards have no less shared memory than one
# of the same generation, and no instructions that neither it nor the next has.
BETWEEN = ((8, 0), (8, 9))
IN_TURN = (prefill_bytes, split_prefill_bytes)  # which differ in one branch


def pairs():
    """Every form with every card."""
    for number, card in enumerate(card for card in LIMITS if card not in BETWEEN):
        for form in FORMS:
            is_long = form in IN_TURN and form is not IN_TURN[number % 2]
            yield pytest.param(form, card, marks=[pytest.mark.long] * is_long)
    for card in BETWEEN:
        yield from (pytest.param(form, card, marks=pytest.mark.long) for form in FORMS)


@pytest.mark.parametrize(
    ("needed", "capability"), [*pairs()], ids=lambda each: each.__name__ if callable(each) else f"{each[0]}.{each[1]}"
)
def test_a_kernel_compiles_and_fits_the_card(needed, capability):
    dtype = torch.float16 if capability < (8, 0) else torch.bfloat16  # what such a card computes in
    assert needed(capability, dtype, 128) <= LIMITS[capability]


@each_card
def test_pages_are_copied_16_bytes_at_a_time(capability):
    ptx = compiled_copy(capability, torch.float16, 16).asm["ptx"]
    moved = [re.findall(rf"{way}\.global\.(?:\w+\.)*(?:v2\.b64|v4\.b32)\b", ptx) for way in ("ld", "st")]
    elements = triton_copy.BLOCK // (32 * triton_copy.NUM_WARPS)  # of a thread
    assert [len(each) for each in moved] == [elements // 2] * 2, ptx


@pytest.mark.long
@each_card
@pytest.mark.parametrize(("needed", "dtype", "head_dim"), LARGEST)
def test_the_largest_tiles_compile_and_fit_the_card(needed, dtype, head_dim, capability):
    assert needed(capability, dtype, head_dim) <= LIMITS[capability]


@pytest.mark.long
@each_card
def test_every_tile_of_a_product_compiles_and_fits_the_card(capability):
    dtype = torch.float16 if capability < (8, 0) else torch.bfloat16
    few = [(held, tile) for held in ("16 bits", "int8", "fp8") for tile in few_rows_tiles(capability, held, 128)]
    needed = [_few_rows_bytes(capability, dtype, held, tile) for held, tile in few]
    needed += [_many_rows_bytes(capability, dtype, tile) for tile in many_rows_tiles(capability, 128)]
    assert max(needed) <= LIMITS[capability]


def test_every_kernel_of_the_package_is_among_them():
    kernels = {
        name
        for module in (
            triton_copy,
            triton_decode,
            triton_parts,
            triton_prefill,
            triton_split,
            triton_write,
            triton_probe,
            triton_few_rows,
            triton_many_rows,
        )
        for name, value in vars(module).items()
        if isinstance(value, triton.runtime.JITFunction)
    }
    compiled_here = "".join(
        inspect.getsource(function)
        for function in [*FORMS, compiled_copy, _few_rows_bytes, _many_rows_bytes, _join_bytes]
    )
    inlined = {
        "_attend_blocks",
        "_exactly",
        "item_of",
        "codes_of",
        "multiplicand",
        "numbers_of",
        "scales_of",
    }  # parts of the others
    assert all(name in compiled_here for name in kernels - inlined), kernels
