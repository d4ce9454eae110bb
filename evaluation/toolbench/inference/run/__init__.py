"""Runs a list of queries: which are left, on which replicas, and what it leaves beside the answers.

Reading order: `sets` (what is run), `earlier_answers` (what a folder has, and with which settings), `progress`,
`run_clock`, `summary` and `failure_causes` (how far it is), `over_replicas` (`RunPlan` is what it is told), `run_files`
(`run.json` and the report), `interruption` (Ctrl-C).
"""
