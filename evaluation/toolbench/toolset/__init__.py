"""A tool set of one's own: tokens, catalog and an initialised checkpoint, from a folder of tool files and a base model.

tools        the tools as files, and the tokens that stand for their APIs (pure, but for reading and writing)
checkpoint   a base model whose vocabulary is extended by the tokens
command      the command line
"""
