"""Is the one command for everything: `bash scripts/toolgen.sh`, or `toolgen` where the package is installed.

Reading order: `commands` (which there are), `run_settings` (the environment's variables as flags of the pipeline),
`api_server` (the offline API server beside a run), `run`, `retrieval`, `judge` and `evaluate` (the commands of these
names), `set_up` (the environment that the scripts make). Nothing here imports a package before the arguments are read.
"""

VERSION = "0.2.0.dev0"
