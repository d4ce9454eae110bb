"""Asks chat models behind OpenAI-compatible servers. It knows neither judges nor simulators.

settings   where servers are, and how much patience they get
replies    reads a chat completion (pure)
endpoint   one server: HTTP in, a reply or a failure out
client     asks several servers in turn, and is patient with them
"""
