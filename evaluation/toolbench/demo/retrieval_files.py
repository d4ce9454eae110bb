"""Turns the demo's queries into a retrieval test, laid out as ToolBench's: which tools does each of them need?"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence

from unidecode import unidecode

from evaluation.toolbench.demo.samples import DemoQuery
from evaluation.toolbench.demo.world import TOOLS
from evaluation.toolbench.names import get_toolbench_name

STAGE = "demo"
SPLITS = ("seen", "held_out")

_APIS = [(tool, api) for tool in TOOLS.values() for api in tool.apis]
_DOCIDS = {(tool.name, api.name): number for number, (tool, api) in enumerate(_APIS, start=1)}


def retrieval_files(queries: Sequence[DemoQuery]) -> dict[str, str]:
    """Map paths in the data folder to contents without the last newline."""
    index = {get_toolbench_name(tool.name, api.name): unidecode(f"<<{tool.name}&&{api.name}>>") for tool, api in _APIS}
    folder = f"retrieval/{STAGE}"
    files = {
        "toolenv/Tool2AtomicId.json": json.dumps(index, indent=2, ensure_ascii=False),
        f"{folder}/corpus.tsv": _tsv([("docid", "document_content"), *_documents()]),
    }
    for split in SPLITS:
        of_split = [query for query in queries if query.split == split]
        pairs = [(query.query_id, docid) for query in of_split for docid in _relevant(query)]
        files[f"{folder}/test_{STAGE}_{split}.query.txt"] = _tsv(
            (query.query_id, query.trajectory.question) for query in of_split
        )
        files[f"{folder}/qrels.test_{STAGE}_{split}.tsv"] = _tsv((query_id, 0, docid, 1) for query_id, docid in pairs)
    return files


def _documents() -> list[tuple[int, str]]:
    return [(_DOCIDS[tool.name, api.name], json.dumps(tool.document(api))) for tool, api in _APIS]


def _relevant(query: DemoQuery) -> list[int]:
    """Return the documents of the APIs that its right trajectory calls, each once."""
    calls = (step.call for step in query.trajectory.steps)
    return list(dict.fromkeys(_DOCIDS[call.tool, call.api] for call in calls))


def _tsv(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter="\t", lineterminator="\n").writerows(rows)
    return text.getvalue().removesuffix("\n")
