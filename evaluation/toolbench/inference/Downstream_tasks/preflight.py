"""Runs `--dry_run`: checks everything a run needs at once and without loading weights, and prints its plan."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.toolbench.http_client.urls import parse_http_url, without_secrets
from evaluation.toolbench.inference.Downstream_tasks.answer_settings import answer_settings, mixed_settings
from evaluation.toolbench.inference.Downstream_tasks.api_caller import api_caller, service_url
from evaluation.toolbench.inference.Downstream_tasks.backbones import layout_for
from evaluation.toolbench.inference.Downstream_tasks.config import LOCAL_BACKBONES, RunConfig
from evaluation.toolbench.inference.Downstream_tasks.options import server_settings
from evaluation.toolbench.inference.Downstream_tasks.query_sets import QuerySet, read_query_sets
from evaluation.toolbench.inference.Downstream_tasks.recorded_apis import check_replies
from evaluation.toolbench.inference.Downstream_tasks.tool_files import ToolFiles
from evaluation.toolbench.inference.errors import DataError, ToolGenError
from evaluation.toolbench.inference.finding import Finding, exit_code
from evaluation.toolbench.inference.multi_gpu.number_formats import NumberFormats
from evaluation.toolbench.inference.records.answers import AnswerFolder
from evaluation.toolbench.inference.records.lock import RunLock
from evaluation.toolbench.inference.records.queries import Query, read_replacements
from evaluation.toolbench.inference.run.progress import RunProgress
from evaluation.toolbench.virtual_api.client import ApiClient

if TYPE_CHECKING:
    from evaluation.toolbench.inference.toolgen.language import ToolLanguage

_WIDTH = 110
_BYTES_PER_ANSWER = 200_000  # events and the report with it, generously
_HALF = 0.5  # of the queries' APIs: fewer recorded ones look like a cache of other data


def print_preflight(config: RunConfig) -> int:
    """Print a line for each check and the verdict last; 0 if a run can start, 1 if not."""
    findings = []
    for finding in Preflight(config).findings():
        findings.append(finding)
        print("\n".join(finding.lines()), flush=True)
    failed = [finding.check for finding in findings if finding.status == "fail"]
    ready = "Ready: the same command without --dry_run starts the run."
    print(f"\nNot ready: {', '.join(failed)}." if failed else f"\n{ready}")
    return exit_code(findings)


class Preflight:
    """Runs the checks of one configuration. One that finds something wrong says so, and the others still run."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config

    def findings(self) -> Iterator[Finding]:
        checks: list[tuple[str, Callable[[], Finding]]] = [
            ("queries", self._check_queries),
            ("tools", self._check_tools),
            ("checkpoint", self._check_checkpoint),
            ("language", self._check_language),
            *([("servers", self._check_servers)] if self._config.model.engine == "server" else []),
            ("API replies", self._check_api),
            ("output folder", self._check_output),
            ("plan", self._check_plan),
        ]
        for name, check in checks:
            try:
                yield check()
            except (ToolGenError, OSError) as error:
                yield Finding(name, "fail", str(error))

    @cached_property
    def _sets(self) -> Sequence[QuerySet]:
        return read_query_sets(self._config, read_replacements(self._config.replace_file))

    @cached_property
    def _queries(self) -> Sequence[Query]:
        """Return the queries of all files."""
        return [
            query
            for queries in {each.place.query_file: each.queries for each in self._sets}.values()
            for query in queries
        ]

    @cached_property
    def _num_left(self) -> int:
        return sum(map(self._num_left_of, self._sets))

    def _num_left_of(self, each: QuerySet) -> int:
        if self._config.overwrite:
            return len(each.queries)
        progress = RunProgress(each.place.answer_folder, each.place.method)
        return sum(not progress.is_answered(query.query_id) for query in each.queries)

    def _check_queries(self) -> Finding:
        lines = []
        for each in self._sets:
            left = self._num_left_of(each)
            done = len(each.queries) - left
            said = f"{each.place.query_file}: {left} to run" + (f", {done} answered earlier" if done else "")
            lines.append(said if len(self._sets) == 1 else f"{each.place.name}: {said}")
        if len(lines) == 1:
            return Finding("queries", "ok", lines[0])
        return Finding("queries", "ok", f"{self._num_left} to run", details=tuple(lines))

    def _check_tools(self) -> Finding:
        files = ToolFiles(self._config.tools.tool_root_dir)
        unknown = []
        for query in self._queries:
            try:
                files.descriptions(query.api_list or [])
            except DataError:
                unknown.append(query.query_id)
        where = self._config.tools.tool_root_dir
        if unknown:
            shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            advice = f"the tools in {where} that these queries were made for; without them these queries fail"
            said = f"{len(unknown)} of {len(self._queries)} queries name tools that are not there: {shown}"
            return Finding("tools", "fail" if len(unknown) == len(self._queries) else "ok", said, advice)
        return Finding("tools", "ok", f"{where} has every tool that the queries name")

    def _check_checkpoint(self) -> Finding:
        model = self._config.model
        if model.backbone_model not in LOCAL_BACKBONES or model.engine == "server":
            return Finding("checkpoint", "skip", "no weights are loaded here")
        from evaluation.toolbench.inference.multi_gpu.gpus import visible_gpus
        from evaluation.toolbench.inference.multi_gpu.planning import footprint_on
        from evaluation.toolbench.inference.multi_gpu.units import gib

        formats = NumberFormats(model.dtype, model.weights, model.kv_cache)
        footprint = footprint_on(visible_gpus() or None, model.model_path, formats)
        return Finding("checkpoint", "ok", f"{model.model_path}: {gib(footprint.weight_bytes)} as {footprint.formats}")

    def _check_language(self) -> Finding:
        """Check that the tokenizer knows the tool tokens, the catalog their documentation, and whose prompt it is."""
        model = self._config.model
        if not model.is_toolgen:
            return Finding("language", "skip", f"{model.backbone_model} brings its own")
        from evaluation.toolbench.inference.multi_gpu.checkpoint import read_config
        from evaluation.toolbench.inference.toolgen.agent_parts import is_bundled

        language = self._language
        language.actions.check_rows(read_config(model.model_path).get_text_config().vocab_size)
        said = f"{len(language.catalog.actions):,} actions, all in the tokenizer"
        if language.texts.own and not is_bundled(model.model_path):
            advice = "run inside the ToolGen checkout, or --system_prompt_file: published numbers need its own words"
            return Finding("language", "ok", f"{said}; {' and '.join(language.texts.own)}: our own wording", advice)
        return Finding("language", "ok", said)

    @cached_property
    def _language(self) -> ToolLanguage:
        from evaluation.toolbench.inference.toolgen.agent_options import AgentOptions
        from evaluation.toolbench.inference.toolgen.agent_parts import load_tokenizer
        from evaluation.toolbench.inference.toolgen.language import ToolLanguage

        model = self._config.model
        options = AgentOptions(
            template=model.template,
            max_sequence_length=model.max_sequence_length,
            indexing=model.indexing or "Atomic",
            indexing_file=model.indexing_file,
            data_dir=self._config.tools.data_dir,
            prompt_layout=model.prompt_layout,
            restrict_actions=model.restrict_actions,
            system_prompt_file=model.system_prompt_file,
        )
        is_span = model.backbone_model == "toolgen"
        return ToolLanguage(load_tokenizer(model.model_path), options, indented_prompt=is_span)

    def _check_servers(self) -> Finding:
        """Shake hands with every generation server; one that a run could begin with is enough."""
        from evaluation.toolbench.inference.engine.remote.roll_call import call_roll
        from evaluation.toolbench.inference.multi_gpu.checkpoint import read_config
        from evaluation.toolbench.inference.toolgen.server_needs import needs_of

        model = self._config.model
        needs = needs_of(model.model_path, read_config(model.model_path), self._language)
        replies = call_roll(server_settings(model), needs)
        num_fit = sum(reply.served is not None for reply in replies)
        can_start = num_fit > 0 and not any(reply.would_end_run for reply in replies)
        is_complete = num_fit == len(replies)
        advice = "" if is_complete else "bash scripts/serve_vllm.sh starts a server that would; or correct ENGINE_URL"
        said = f"{num_fit} of {len(replies)} would serve this run"
        return Finding("servers", "ok" if can_start else "fail", said, advice, tuple(map(str, replies)))

    def _check_api(self) -> Finding:
        client = api_caller(self._config.tools)
        if not isinstance(client, ApiClient):
            return Finding("API replies", "ok", "from the tools' own code on this machine")
        client.check()
        found, simulator = check_replies(client, self._queries)
        simulated = (simulator.in_words,) if simulator.is_there else ()
        if found is None:
            url = without_secrets(parse_http_url(service_url(), "SERVICE_URL"))
            return Finding("API replies", "ok", f"a server answers at {url}", details=simulated)
        said = (
            f"{found.folder}: {found.recorded:,} of the {len(found.wanted):,} APIs that the queries name are recorded"
        )
        if simulated:
            return Finding("API replies", "ok", said, details=simulated)
        if found.recorded < _HALF * len(found.wanted):
            return Finding("API replies", "ok", said, "a cache of the same data as the queries: other calls are errors")
        return Finding("API replies", "ok", said)

    def _check_output(self) -> Finding:
        for folder in dict.fromkeys(Path(each.place.answer_folder) for each in self._sets):
            self._try_folder(folder)
        folder = Path(self._config.output_answer_file)
        self._compare_settings()
        free = shutil.disk_usage(_nearest(folder)).free
        needed = _BYTES_PER_ANSWER * self._num_left
        if free < needed:
            return Finding("output folder", "fail", f"{folder}: {free:,} bytes free, about {needed:,} wanted", "room")
        return Finding("output folder", "ok", f"{folder} can be written, and no other run uses it")

    def _compare_settings(self) -> None:
        settings = answer_settings(self._config)
        for each in self._sets:
            progress = RunProgress(each.place.answer_folder, each.place.method)
            other_texts, replaced = [], []
            if self._config.overwrite:
                replaced = [query.query_id for query in each.queries]
            else:
                other_texts = [query.query_id for query in each.queries if progress.has_other_text(query)]
            mixed_settings(self._config, settings, progress.answers.folder, other_texts, replaced)

    def _try_folder(self, folder: Path) -> None:
        """Raise OutputError if the folder cannot be written or another run has it. What was not there is gone again."""
        made = [each for each in (folder, *folder.parents) if not each.exists()]
        AnswerFolder(folder, "").prepare()
        lock = RunLock(folder, shard=self._config.shard_name)
        lock.acquire()
        lock.release()
        for each in made:
            each.rmdir()

    def _check_plan(self) -> Finding:
        if not self._num_left:
            return Finding("plan", "skip", "nothing is left to run")
        layout = layout_for(self._config, self._num_left)
        number = len(layout.replicas)
        where = ", ".join(layout.replicas[0].gpus) or "the processor"
        said = f"one replica on {where}" if number == 1 else f"{number} replicas"
        if self._config.model.engine == "server":
            said = "the servers hold the model"
        return Finding("plan", "ok", said, details=tuple(textwrap.wrap(layout.reasons, _WIDTH)))


def _nearest(folder: Path) -> Path:
    """Return the folder itself, or the first one above it that is there."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
