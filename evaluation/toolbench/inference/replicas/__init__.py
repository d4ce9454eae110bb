"""Several copies of the model at work on one list of queries.

Reading order: `status` (what a person is shown), `layout` (which replica gets which GPUs), `messages`,
`worker` (a replica's side), `supervisor` (the parent's side).
"""
