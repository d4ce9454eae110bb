"""Token ids in, token ids out: see `request` for the interface that all engines share."""

# As `--engine` gives them. Here, because the command line is read before torch is imported.
ENGINES = ("auto", "paged", "generate", "server")
