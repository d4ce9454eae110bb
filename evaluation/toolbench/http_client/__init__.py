"""Holds what every HTTP client of this tree shares. It knows no protocol of a server's.

URLs and proxies that users give, one bounded exchange, retries, what a server's failure means. Reading order: `urls`,
`proxies`, `exchange`, `connection`, `retry`, `server_replies`.
"""
