"""Knows which GPUs there are, what a model needs, where it goes, and how it gets there.

Reading order:

    units, cards                what people write: amounts of memory, names of cards
    nvml, visible_devices, gpus, gpu_use    the GPUs of this machine, and which of them CUDA will see
    memory_map                  how much of each GPU a model may use
    model_files, hub, lora      where a model's files are found: folders, the Hub, adapters
    checkpoint, checkpoint_identity    what a folder of weights holds, and whether two hold the same
    number_formats, eight_bit   in which formats weights may be held, and which weights are
    dtypes, usability           in which dtype the cards compute; which cards are refused
    gpu_config, footprint       what a user may say of GPUs; what a model needs: bytes of weights, KV cache, logits
    expectation, throughput     what a query needs, and how fast a replica answers
    splits, replica_plan, fitting, grouping    one replica over some GPUs; which GPUs work together
    placement, reasons, misfit  the plan of a run, why it was chosen, or why there is none
    planning                    the plan for this machine as it is now
    device_maps, quantized_loading, loading    weights come to lie where they were planned
    banner, tables, format_table, simulated    for people

Deciding is pure (sizes and budgets in, a plan out); `gpus`, `checkpoint`, `planning` and `loading` read and load.
"""
