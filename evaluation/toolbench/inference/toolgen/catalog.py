"""Lists what can be called: the texts a model generates for tools, the APIs they stand for, their documentation.

An *action* is such a text: a tool token (`<<Sky Watch&&Daily Forecast>>`) or, in the indexings with several
tokens an action, a readable name or digits. A *name* is the ToolBench function name of an API, which several
APIs may share; `ActionName` tells them apart.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from evaluation.toolbench.checkout import repository_root
from evaluation.toolbench.inference.errors import ConfigError, DataError
from evaluation.toolbench.inference.toolgen.prompts import NO_DOCUMENTATION
from evaluation.toolbench.json_input import JsonError, parse_json, read_text
from evaluation.toolbench.names import ActionName, ascii_folded, get_toolbench_name

logger = logging.getLogger(__name__)

FINISH_NAME = "Finish"
INVALID_NAME = "invalid_hallucination_function_name"  # the name that a call of an unknown function is given
INVALID_ACTION = "Invalid Action"  # the text such a call has in the history

FINISH_ACTIONS = {"Atomic": "<<Finish>>", "Semantic": "Finish", "Numeric": "4 6 7 3 2", "Hierarchical": "9 9 9 9 3"}
OWN_INDEXING = "of a file"  # the one that an --indexing_file describes
_FINISH_OPTIONAL = (
    {"name": "give_answer", "description": "Output the answer", "type": "string"},
    {"name": "give_up_and_restart", "description": "Unable to handle the task from this step", "type": "string"},
)


def default_data_dir() -> Path:
    """Return `data/` of the checkout this package lies in; the demo's where there is none."""
    root = repository_root()
    return root / "data" if (root / "data").is_dir() else root / "evaluation/toolbench/demo/assets"


@dataclass(frozen=True)
class ToolCatalog:
    """Holds actions, names and documentation of one `data` folder for all conversations; not to be changed.

    `token_to_toolbench_name` has every action; where several actions share a name, `toolbench_name_to_token`
    has the last one. `documentation` is keyed by action and holds, beside the tools, Finish and the text for
    `Invalid Action`; with Atomic indexing also the APIs without a token, whose text a model can still spell out.
    """

    indexing: str
    finish: str
    token_to_toolbench_name: dict[str, str]
    toolbench_name_to_token: dict[str, str]
    documentation: dict[str, dict[str, Any] | str]
    _by_api: Mapping[tuple[str, str], str]
    _by_name: Mapping[str, tuple[str, ...]]

    @property
    def actions(self) -> list[str]:
        """Return every action, Finish included."""
        return list(self.token_to_toolbench_name)

    def documented_actions(self) -> list[str]:
        """Return the actions that a call can follow: those with documentation, Finish included."""
        return [action for action in self.token_to_toolbench_name if action in self.documentation]

    def action_of(self, name: str) -> str | None:
        """Return the action behind a name: exactly the one meant for an ActionName. None for a name not known."""
        if isinstance(name, ActionName):
            exact = self._by_api.get((name.tool_name, name.api_name))
            if exact is not None:
                return exact
        return self.toolbench_name_to_token.get(name)

    def actions_of(self, name: str) -> tuple[str, ...]:
        """Return all actions that `name` may stand for: one for an ActionName, none for a name not known."""
        if isinstance(name, ActionName):
            exact = self._by_api.get((name.tool_name, name.api_name))
            if exact is not None:
                return (exact,)
        return self._by_name.get(name, ())

    def name_of(self, action: str) -> str:
        """Return the name to call for a generated action: the text itself where it is not an action."""
        return self.token_to_toolbench_name.get(action, action)


def load_catalog(
    data_dir: str | Path | None,
    indexing: str,
    finish_description: str,
    indexing_file: str | Path | None = None,
) -> ToolCatalog:
    """Return the catalog of a `data` folder, read once per process.

    Atomic indexing reads `virtual_tokens.txt`, the others `toolenv/Tool2<indexing>Id.json`; an `indexing_file` stands
    in for them, in the form of the latter and with Finish's own text under "Finish". All read
    `toolenv/tools/tools.json`. DataError names the file, the entry and what to do.
    """
    if indexing_file is None and indexing not in FINISH_ACTIONS:
        raise ConfigError(f"unknown indexing {indexing!r}: use {', '.join(FINISH_ACTIONS)}, or an --indexing_file")
    folder = (Path(data_dir) if data_dir is not None else default_data_dir()).resolve()
    if not folder.is_dir():
        raise ConfigError(f"no data folder at {folder}: pass --data_dir, or unpack ToolGen's data there")
    file = Path(indexing_file).resolve() if indexing_file is not None else None
    return _load_catalog(folder, OWN_INDEXING if file else indexing, finish_description, file)


@lru_cache(maxsize=4)
def _load_catalog(folder: Path, indexing: str, finish_description: str, indexing_file: Path | None) -> ToolCatalog:
    finish = FINISH_ACTIONS.get(indexing, "")
    apis = _read_tools(folder / "toolenv" / "tools" / "tools.json")
    entries: Sequence[tuple[str, str]]
    if indexing == "Atomic":
        entries = _read_tokens(folder / "virtual_tokens.txt", finish)
        action_of = {api: ascii_folded(f"<<{api[0]}&&{api[1]}>>") for api in apis}
    else:
        finish, entries = _read_index(indexing_file or folder / "toolenv" / f"Tool2{indexing}Id.json", finish)
        action_of_name = {name: action for action, name in entries}
        exact = {(n.tool_name, n.api_name): action for action, n in entries if isinstance(n, ActionName)}
        action_of = {api: exact.get(api) or action_of_name.get(get_toolbench_name(*api), "") for api in apis}

    names: dict[str, str] = dict(entries)
    by_api = {(name.tool_name, name.api_name): action for action, name in entries if isinstance(name, ActionName)}
    documentation: dict[str, dict[str, Any] | str] = {
        finish: {"description": finish_description, "required": [], "optional": [dict(o) for o in _FINISH_OPTIONAL]},
        INVALID_ACTION: NO_DOCUMENTATION,
    }
    without_action = []
    for api, entry in apis.items():
        action = action_of[api]
        if action:
            documentation[action] = {"name": action, **entry.documentation}
        if action in names:
            by_api[entry.called] = action
            names[action] = ActionName(names[action], *entry.called)
        else:
            without_action.append(api)
    if without_action:
        tool_name, api_name = without_action[0]
        logger.warning(
            f"{len(without_action)} APIs of tools.json have no {indexing} action and cannot be called "
            f"(the first one is {api_name!r} of {tool_name!r}); {len(apis) - len(without_action)} can"
        )

    actions_of_name: dict[str, list[str]] = {FINISH_NAME: [finish]}
    for action, name in entries:
        actions_of_name.setdefault(str(name), []).append(action)
    last_action = {name: actions[-1] for name, actions in actions_of_name.items()}
    return ToolCatalog(
        indexing=indexing,
        finish=finish,
        token_to_toolbench_name={finish: FINISH_NAME, **names},
        toolbench_name_to_token={**last_action, INVALID_NAME: INVALID_ACTION},
        documentation=documentation,
        _by_api=by_api,
        _by_name={name: tuple(actions) for name, actions in actions_of_name.items()},
    )


@dataclass(frozen=True, slots=True)
class _Api:
    called: tuple[str, str]  # (tool, API) under which the environment calls it
    documentation: dict[str, Any]


def _read_tools(path: Path) -> dict[tuple[str, str], _Api]:
    """Return the APIs of tools.json by (tool, API) as their token spells them; of two alike the later one."""
    tools = _read_json(path)
    if not isinstance(tools, list):
        raise DataError(f"{path} holds a {type(tools).__name__}, not a list of tools. Is it ToolGen's tools.json?")
    apis: dict[tuple[str, str], _Api] = {}
    for position, tool in enumerate(tools):
        where = f"{path}, tool {position}"
        token_name = _field(tool, ("name", "tool_name"), where)
        called_name = _field(tool, ("tool_name", "name"), where)
        if not isinstance(tool.get("api_list"), list):
            raise DataError(f"{where} ({token_name}) has no list 'api_list'. Restore the file from ToolGen's data")
        for number, api in enumerate(tool["api_list"]):
            api_name = _field(api, ("name",), f"{where} ({token_name}), API {number}")
            apis[token_name, api_name] = _Api(
                called=(called_name, api_name),
                documentation={
                    "description": str(api.get("description") or "").strip() or "None.",
                    "required": api.get("required_parameters") or [],
                    "optional": api.get("optional_parameters") or [],
                },
            )
    return apis


def _field(entry: Any, keys: Iterable[str], where: str) -> str:
    """Return the first of `keys` that `entry` has."""
    for key in keys:
        if isinstance(entry, dict) and isinstance(entry.get(key), str):
            return str(entry[key])
    raise DataError(f"{where} has no text under {' or '.join(map(repr, keys))}. Restore the file from ToolGen's data")


def _read_tokens(path: Path, finish: str) -> list[tuple[str, ActionName]]:
    """Return (token, ToolBench name) in the order of the file, without Finish.

    Tokens are in ASCII as in the vocabulary; names come from the line as it is. API names may contain
    `&&`, tool names do not, so the first one separates them.
    """
    names: dict[str, ActionName] = {}
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        token = line.strip()
        if not token or token == finish:
            continue
        tool_name, separator, api_name = token[2:-2].partition("&&")
        if not (token.startswith("<<") and token.endswith(">>") and separator):
            raise DataError(f"{path}, line {number}: {token!r} is not of the form <<tool&&API>>. Restore the file")
        ascii_token = ascii_folded(token)
        if ascii_token in names:
            raise DataError(f"{path}, line {number}: the token {ascii_token!r} appears twice. Remove one of the lines")
        names[ascii_token] = ActionName.of(tool_name, api_name)
    return list(names.items())


def _read_index(path: Path, finish: str) -> tuple[str, list[tuple[str, str]]]:
    """Return Finish's action and (action, ToolBench name) in the order of the file.

    A file of the user's own says what Finish's is. A name like a tool token's, `<<tool&&API>>`, means that API alone,
    where several share a ToolBench name.
    """
    index = _read_json(path)
    if not isinstance(index, dict):
        raise DataError(f"{path} holds a {type(index).__name__}, not an object of names. Restore the file")
    if not finish:
        finish = index.pop(FINISH_NAME, None)
        if not isinstance(finish, str) or not finish.strip():
            raise DataError(f"{path} has no text under {FINISH_NAME!r}: what the model generates to end a task")
    for name, action in index.items():
        if not isinstance(action, str) or not action.strip():
            raise DataError(f"{path}: the entry {name!r} is {action!r}, not a text to generate. Restore the file")
        if action == finish:
            raise DataError(f"{path}: the entry {name!r} is {action!r}, which is Finish's own. Give it another text")
    shared = len(index) - len(set(index.values()))
    if shared:
        logger.warning(f"{path}: {shared} of {len(index)} names have the text of another one, which the last keeps")
    return finish, [(action, _named(name)) for name, action in index.items()]


def _named(name: str) -> str:
    tool_name, separator, api_name = name[2:-2].partition("&&")
    is_token = name.startswith("<<") and name.endswith(">>") and separator
    return ActionName.of(tool_name, api_name) if is_token else name


def _read_json(path: Path) -> Any:
    try:
        return parse_json(_read_text(path))
    except JsonError as error:
        raise DataError(f"{path} is {error}. Restore the file") from error


def _read_text(path: Path) -> str:
    try:
        return read_text(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist. ToolGen's data has it; --data_dir says where to look") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
