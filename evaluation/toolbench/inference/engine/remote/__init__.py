"""Generates on OpenAI-compatible servers that honour token constraints (vLLM), one or several, anywhere.

settings     what the user says: URLs, key, patience
pieces       a generation as the requests it takes, one after another (pure)
scores       a scoring as the requests it takes (pure)
wire         requests and replies as JSON, and what a reply means (pure)
endpoint     one URL: HTTP in, token ids or a typed failure out
handshake    what is asked of a server before anything is trusted to it
roll_call    the handshakes alone, for a dry run
pool         which URL serves which conversation (pure)
engine       the `Engine` of all this
"""
