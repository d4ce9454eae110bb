"""Has what kernels of any kind need of a card, of Triton and of 8-bit numbers. Reading order:

hardware                 what a card can do, read once
cache                    where compiled kernels are kept; a launch is tried again where that place fails
triton_probe             the smallest kernel: where it runs, others do
availability             whether Triton's kernels run on a device; a warning says why not
float8                   numbers in 8 bits: a scale for each vector
triton_float8            the same inside of kernels
"""
