"""Says what happened in a run, for people and programs: event logs, `run.json` and `report.html`.

Reading order: `timeline` and `totals` (curves and sums of what `records.event_history` read back),
`answer_files` and `trajectory` (what the model did), `report` and `html` (`report.html`); of several runs `judgements`,
`compared_runs`, `paired` and `comparison` (`comparison.html`); of a folder of sets `set_figures` and `overview`. What
is written while a run goes on is in `records` (`event_log`, `run_record`). When all is done: `write_report(folder)`.
"""
