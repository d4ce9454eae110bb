"""Several copies of the model at work on one list of queries.

Reading order: `status` (what a person is shown), `layout` and `choice` (which replica gets which GPUs),
`messages` (what parent and replica say to each other), `ledger` (which query is where), `supervisor` (the
parent's side), `process` (its handle on a replica), `worker`, `work` and `serving` (the replica's side),
`limits` and `meter` (what watches its engine), `lock`, and `run`, which puts it together.
"""
