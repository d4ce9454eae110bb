"""What happened in a run, for people and programs: event logs, `run.json` and `report.html`.

Reading order: `event_log` (written while it happens), `history` (read back), `timeline` and `totals`
(curves and sums), `answers` and `trajectory` (what the model did), `run_record` (`run.json`), `report` and
`page` (`report.html`). In a replica:

    with EventLog(folder, replica, run_id=run_id, gpus=uuids, num_conversations=16) as log:
        with MemorySampler(log, visible_gpus):
            engine = MeteredEngine(engine)                     # counts tokens for the query of its thread
            with log.query(query_id, method=method, text=query) as recorder:
                search(..., callbacks=[recorder])              # an exception ends the query as failed

and, when all is done, `write_run_record(folder, RunRecord(...))` and `write_report(folder)`.
"""
