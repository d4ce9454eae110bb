"""Keeps what a run leaves on disk, and reads it back. It knows neither models nor replicas.

Reading order:

    whole_files, json_lines, lock     files that are absent or whole, lines that survive a kill, one run at a time
    queries, problem                  what there is to run; an error as plain data
    answers, failures                 what came of each query: a file, or an entry in failures.json
    finish, statuses, cut_texts       what codes and arguments of Finish mean; verdicts; texts without an end
    event_log, event_history          what happened, written line by line and read back
    rates, cache_use, run_record      how fast it was, by one definition; hits of the server's cache; run.json
"""
