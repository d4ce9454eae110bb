"""Matrix products of steps of few rows, where reading the weights is all that takes time. Reading order:

few_rows                 one product: by a kernel of our own where the step has few rows, else by PyTorch's
tiles                    how that kernel is cut, by number format and size (pure): the table to edit after a benchmark
triton_few_rows          the kernel
"""
