"""Checks whether this machine works for many-GPU inference: what was measured, and what to try.

finding.py         what a check reports, as a line and as JSON
machine.py         what the checks look at: options, GPUs, layout, the loaded model
environment.py     versions, GPUs, CUDA_VISIBLE_DEVICES
peer_copies.py     real copies between every ordered pair of GPUs
model_checks.py    layout, loading, device map, generation
memory_check.py    memory under the longest conversation
command.py         the command line
"""
