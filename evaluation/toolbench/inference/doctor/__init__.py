"""Checks whether this machine works for many-GPU inference: what was measured, and what to try.

What a check reports is an `inference.finding`. Reading order:

    options            the flags, which import no package
    machine            what the checks look at: GPUs, layout, the loaded model
    machine_checks     versions, GPUs, CUDA_VISIBLE_DEVICES, main memory
    peer_copies        real copies between every ordered pair of GPUs
    memory_check       memory under the longest conversation
    model_checks       layout, loading, device map, generation
    command            the command line
"""
