"""A run over a list of queries: which are left, on which replicas, and what it leaves beside the answers.

Reading order: `progress` and `summary` (how far it is), `over_replicas` (`RunPlan` is what it is told),
`run_files` (`run.json` and the report), `interruption` (Ctrl-C).
"""
