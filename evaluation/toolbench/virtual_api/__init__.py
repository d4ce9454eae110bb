"""Is the virtual API: a server that replays recorded API answers, and the client that conversations use.

Both speak the HTTP contract of StableToolBench's virtual API server, so either works with that
project's own counterpart. Nothing here knows of agents, their prompts or GPUs. Reading order:

    cache_names, keys        where a request's answers are recorded, and under which key (pure)
    own_answers, replies     what the server answers when it has none; what an answer means to the caller (pure)
    cache                    the folder of recorded answers
    forwarder                asking another server
    simulator/               asking a chat model what an API would reply
    config, app, body_limit, serving    settings, the HTTP server and its process
    retry_policy             whether a call is tried again, and when (pure)
    api_service, client      one request to a server that may be away; the client that conversations share
"""
