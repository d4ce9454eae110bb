"""Matrix products of our own: of few rows, where reading weights is all that takes time, and of int8. Reading order:

few_rows                 one product: by a kernel of our own where that is faster, else by PyTorch's
tiles                    how the kernels are cut, by number format and size (pure): the table to edit after a benchmark
triton_few_rows          the kernel for few rows
triton_many_rows         the kernel for more rows and weights of int8
"""
