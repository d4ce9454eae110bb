"""Asks a chat model what an API would reply, where the cache has no reply, and keeps what it says.

state            what a server tells of its simulator
tool_documents   an API's documentation, from the folder of tools
requests         the request of a call, as StableToolBench's MirrorAPI models know it (pure)
system_prompt    finds that project's system prompt in a checkout, or has our own
said_replies     reads a reply from whatever the model said (pure)
simulator        replays what was said before, else asks once, and stores it
"""
