"""Answers to be scored, the commands that score them, and the recorded example of ToolEval's own scoring."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.toolbench.tooleval import eval_pass_rate, eval_preference
from tests.helpers.fake_judge import FakeJudge, Verdicts
from tests.helpers.pipeline import ROOT

EXAMPLE = ROOT / "tests/tooleval/example"
MODEL = "tram-cot"
SET = "G9_demo"

JUDGE_VARIABLES = (
    *("JUDGE_URL", "JUDGE_MODEL", "JUDGE_API_KEY", "EVAL_MODEL", "API_POOL_FILE"),
    *("OPENAI_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE"),
)


class ScoringWorld:
    """A copy of the example's inputs below `root`, and the commands over it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.converted = root / "model_predictions_converted"
        self.ids = root / "test_query_ids"
        shutil.copytree(EXAMPLE / "model_predictions_converted", self.converted)
        shutil.copytree(EXAMPLE / "test_query_ids", self.ids)
        for model in ("tram-cot", "tram-dfs"):
            shutil.copy(self.converted / model / "G9_demo.json", self.converted / model / "G9_pairs.json")
        self.pass_rates = root / "pass_rate"
        self.preferences = root / "preference"

    def pass_rate_arguments(self, *more: str, model: str = MODEL, sets: Sequence[str] = (SET,)) -> list[str]:
        return [
            *("--converted_answer_path", str(self.converted), "--test_ids", str(self.ids)),
            *("--reference_model", model, "--save_path", str(self.pass_rates / model), "--test_set", *sets, *more),
        ]

    def pass_rate(self, judge: FakeJudge | None, *more: str, model: str = MODEL, sets: Sequence[str] = (SET,)) -> int:
        """Score in this process, with 3 repeats unless told otherwise; the exit code."""
        url = ["--judge_url", judge.url] if judge else []
        times = [] if "--evaluate_times" in more else ["--evaluate_times", "3"]
        return eval_pass_rate.main(self.pass_rate_arguments(*url, *times, *more, model=model, sets=sets))

    def preference(self, judge: FakeJudge, *more: str) -> int:
        """Compare the example's two models in this process, in 3 rounds; the exit code."""
        return eval_preference.main(
            [
                *("--converted_answer_path", str(self.converted), "--test_ids", str(self.ids)),
                *("--reference_model", "tram-dfs", "--output_model", "tram-cot", "--test_set", "G9_pairs"),
                *("--save_path", str(self.preferences), "--pass_rate_result_path", str(self.pass_rates)),
                *("--evaluate_times", "3", "--judge_url", judge.url, *more),
            ]
        )

    def file(self, ending: str, model: str = MODEL, test_set: str = SET) -> Path:
        """One of the pass rate's files."""
        return self.pass_rates / model / f"{test_set}_{model}{ending}"

    def results(self, model: str = MODEL, test_set: str = SET) -> dict[str, Any]:
        return json.loads(self.file("_results.json", model, test_set).read_text(encoding="utf-8"))

    def verdicts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file("_verdicts.jsonl").read_text(encoding="utf-8").splitlines()]

    def preference_file(self, ending: str) -> Path:
        return self.preferences / f"G9_pairs_tram-dfs_tram-cot{ending}"

    def write_answers(self, num: int, *, model: str = MODEL, test_set: str = SET) -> list[str]:
        """Replace a set by this many answers that only a judge can decide about; their ids."""
        ids = [str(7000 + number) for number in range(num)]
        answers = {query_id: judged_answer(f"Question {query_id}?", f"Answer {query_id}.") for query_id in ids}
        (self.converted / model / f"{test_set}.json").write_text(json.dumps(answers), encoding="utf-8")
        (self.ids / f"{test_set}.json").write_text(json.dumps(dict.fromkeys(ids, 0)), encoding="utf-8")
        return ids

    def start_pass_rate(self, judge: FakeJudge, *more: str) -> subprocess.Popen[str]:
        """Score in a process of its own."""
        arguments = self.pass_rate_arguments("--judge_url", judge.url, "--evaluate_times", "3", *more)
        environment = {key: value for key, value in os.environ.items() if key not in JUDGE_VARIABLES}
        return subprocess.Popen(
            [sys.executable, "-m", "evaluation.toolbench.tooleval.eval_pass_rate", *arguments],
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


def complaints(capsys: Any) -> list[str]:
    """The lines on stderr that are not warnings."""
    return [line for line in capsys.readouterr().err.splitlines() if not line.startswith("WARNING: ")]


def judged_answer(query: str, text: str) -> dict[str, Any]:
    """A converted answer: one call of Finish."""
    return finished_answer(query, json.dumps({"return_type": "give_answer", "final_answer": text}))


def finished_answer(query: str, arguments: str, *, name: str = "Finish") -> dict[str, Any]:
    """A converted answer whose last call has this name and these arguments, which are its final answer."""
    tool = {"role": "tool", "message": {"name": name, "arguments": arguments, "response": ""}, "next": []}
    user = {"role": "user", "message": "", "next": [tool]}
    details = [{"role": "system", "message": "", "next": [user]}]
    answer = {"method": "CoT@1", "total_steps": 3, "final_answer": arguments, "answer_details": details}
    return {"query": query, "available_tools": [], "answer": answer}


def recorded(name: str) -> list[dict[str, Any]]:
    """The example's requests to the judge, with what was inserted into the prompts and what it replied."""
    return json.loads((EXAMPLE / f"judge_requests_{name}.json").read_text(encoding="utf-8"))


def replay(requests: Sequence[Mapping[str, Any]]) -> Verdicts:
    """A judge that says what the recorded one said: to each status question in turn, and to each pair the same."""
    statuses: defaultdict[tuple[str, str, str], deque[Any]] = defaultdict(deque)
    chosen: dict[str, str] = {}
    for request in requests:
        check, inserted = request["reply"]["function"], request["inserted"]
        if "answer" in inserted:
            statuses[check, inserted["query"], inserted["answer"]].append(request["reply"]["arguments"])
        elif "answer_0" in inserted:
            chosen[inserted["query"]] = inserted[f"answer_{request['reply']['arguments']['index']}"]

    def verdicts(check: str, prompt: str) -> Mapping[str, Any]:
        if check == "select_better_answer":
            [answer] = [answer for query, answer in chosen.items() if query in prompt]
            others = prompt.split("Answer 1:")[0]
            return {"index": 0 if answer in others else 1, "reason": "scripted choice"}
        [key] = [key for key in statuses if key[0] == check and key[1] in prompt and f"\n{key[2]}\n" in prompt]
        return statuses[key].popleft()

    return verdicts
