"""Runs a planned step: prepare its inputs, have the stages compute, draw the next tokens. Reading order:

runner                   `ModelRunner.launch`, which is those three
step_buffers, slot_table the inputs as one array of int32, and how the host writes them from what it keeps by slot
staging                  the memory that a step on its way has for itself
stages, stage_runner     the model's layers by device; one stage's part of a step, as a graph or as it is
step_graph               a CUDA graph for each shape of step
paged_step, host_step    the attention of a step's layers: on GPUs, and on the CPU
drawing, output_head     the next tokens, where the output embedding lies; its logits
links                    from one device to the next
last_layer               which computes, in steps that read prompts, the tokens alone that are drawn from
joined_linear,
few_rows_linear,
compilation              what makes large models faster: fewer matrix products, a kernel for few rows, fused small
                         operations
"""
