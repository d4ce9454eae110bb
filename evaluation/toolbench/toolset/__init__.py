"""Makes a tool set of one's own from tool files and a base model: tokens, catalog, an initialised checkpoint.

tools        the tools as files, and the tokens that stand for their APIs (pure, but for reading and writing)
checkpoint   a base model whose vocabulary is extended by the tokens
command      the command line
"""
