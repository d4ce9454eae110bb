"""What happened in a run, for people and programs: event logs, `run.json` and `report.html`.

Reading order: `event_log` (written while it happens), `history` (read back), `timeline` and `totals`
(curves and sums), `answers` and `trajectory` (what the model did), `run_record` (`run.json`), `report` and
`page` (`report.html`).
"""
