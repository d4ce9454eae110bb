"""Evaluates retrieval: which tools a model names for a query, by beam search, against the relevant ones.

tsv.py          reads tab-separated files as pandas does
index.py        the texts that a model may name, and the tools behind them
queries.py      queries with their relevant tools: ToolBench's files, or ToolRet's
prompts.py      a query as token ids, token ids as a text
beam_search.py  the rules of the search, without a model
metrics.py      ToolGen's NDCG, and the corrected numbers
"""
