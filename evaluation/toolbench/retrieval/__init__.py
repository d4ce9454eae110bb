"""Evaluates retrieval: which tools a model names for a query, by beam search, against the relevant ones.

Reading order:

    tsv, index               tab-separated files as pandas reads them; the texts that a model may name, and their tools
    queries, toolret         queries with their relevant tools: ToolBench's files, or ToolRet's
    prompts, search_space    a query as token ids, token ids as a text; every candidate's text in a trie
    beam_search, search      the rules of the search, without a model; a prompt's searches over an engine
    metrics, results         ToolGen's NDCG, and the corrected numbers; a set's numbers and files
    options, model           the command line; what is known of a checkpoint before it loads
    evaluation_sets, preparation   what is evaluated; all of it as token ids, checked
    job, capacity            what a replica is asked; how much of it at once, by its memory
    replica, over_replicas   what a replica loads and does; the searches over all of them
    query_log, progress      what came of each query, as it comes; how far each set is
    run_files, report, table the record, the page and the table of a run
    run                      an evaluation from its flags to its files
"""
