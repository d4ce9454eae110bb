"""Is the paged engine: continuous batching over a transformers model, with a paged KV cache. Reading order:

engine                   `PagedEngine`: what callers ask of it
serving_loop             its thread, which plans a step, launches it, takes the last one's tokens
sequence, prefix         one request on its way; what earlier ones have left for it (pure)
pages                    who holds which page of the KV cache (pure)
limits, step_sizes       how large a step may become, and what its size is rounded up to (pure)
scheduler, plan          who takes part in the next step, with how many tokens (pure); what it decides
working_memory           what steps need beside weights and pages (pure)
kv_cache, page_copies    the tensors behind the pages; pages copied in all of them
attach                   the seam to transformers' attention
model_setup              a model made ready for the engine: its stages, and the memory of a step on them
execution/               how a planned step is run
"""
