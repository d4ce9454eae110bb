"""Names what can go wrong, as few types as callers need to tell apart.

The library raises these; a program's `main` prints the message, one line that says what was being
done, the numbers found and what to change, and exits with `exit_code`. Set TOOLGEN_TRACEBACK=1 to see
the traceback instead.

    ToolGenError
      ConfigError      a flag, an environment variable or a name that we do not know
      DataError        a query file, tool file, tokenizer or checkpoint that is not what it should be
      PlacementError   GPUs, memory, or a layout that does not fit
      EngineError      a generation request that cannot be served
        EngineStoppedError   by an engine that serves no request any more
          ServerError        because there is no usable generation server
      ApiError         no usable API server
      JudgeError       no judge that can be asked
      OutputError      an answer that cannot be written
"""

from __future__ import annotations

from typing import Any


def first_line(error: BaseException) -> str:
    """Return what a library's error says first: often all there is to say, before pages of advice. "" if nothing."""
    return str(error).strip().partition("\n")[0]


class ToolGenError(Exception):
    """Is the base of all errors of this package; `details` carries the numbers, so nobody parses the text."""

    exit_code = 2

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class ConfigError(ToolGenError):
    """Says that we do not know a flag, an environment variable or a name."""


class DataError(ToolGenError):
    """Says that a query file, tool file, tokenizer or checkpoint is not what it should be."""


class PlacementError(ToolGenError):
    """Says that GPUs or memory do not suffice, or cannot be read."""


class EngineError(ToolGenError):
    """Says that a generation request cannot be served."""


class EngineStoppedError(EngineError):
    """Says that an engine serves no request any more."""


class ServerError(EngineStoppedError):
    """Says that there is no usable generation server."""


class ApiError(ToolGenError):
    """Says that there is no usable API server."""


class JudgeError(ToolGenError):
    """Says that no judge can be asked."""


class OutputError(ToolGenError):
    """Says that an answer cannot be written."""


class StopRequested(BaseException):
    """Ends a query between two steps when a callback raises it, because the whole run is being stopped.

    Not an Exception, so that nothing records it as a failure of the query.
    """
