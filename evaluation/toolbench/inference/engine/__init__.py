"""Token ids in, token ids out: see `request` for the interface that all engines share."""

# Here, because the command line is read before torch is imported.
MAX_RUNNING = 128  # sequences in the paged engine's largest step, and conversations of a replica, unless told
SERVER_WAIT_S = 300.0  # for a generation server when all are down
# As `--engine` gives them.
ENGINES = ("auto", "paged", "generate", "server")
