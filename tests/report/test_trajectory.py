"""From answer files to steps: CoT with several tries, DFS trees, and the time that each step took."""

import json

import pytest

from evaluation.toolbench.inference.records.event_history import read_history
from evaluation.toolbench.inference.run_report.answer_files import read_answers
from evaluation.toolbench.inference.run_report.trajectory import add_timings, chain_trajectory, tree_trajectory
from tests.helpers.run_report import ANSWER, GIVE_UP, Move, finish, replica_log, run_query


def answer_of(folder, moves, method="CoT@1", **options):
    with replica_log(folder) as log:
        run_query(folder, log, "7", moves, method=method, **options)
    [answer] = read_answers(folder)
    return answer


def shape(trajectory):
    """Names of functions, with a list for each fork."""
    return [step.action for step in trajectory.steps] + [shape(branch) for branch in trajectory.branches]


def test_three_nodes_are_one_step(tmp_path):
    answer = answer_of(tmp_path, [Move(code=6, observation="down"), finish()])
    [trajectory] = answer.trajectories
    first, last = trajectory.steps
    assert (first.thought, first.action) == ("I look up the forecast.", "daily_forecast_for_sky_watch")
    assert (first.arguments, first.observation, first.code) == ('{"city": "Paris"}', "down", 6)
    assert (last.action, last.arguments, last.code) == ("Finish", ANSWER, 3)
    assert (first.is_error, last.is_error) == (True, False)
    assert (answer.outcome, answer.final_answer) == ("answered", "Sunny, 21 degrees.")


def test_steps_without_a_thought_or_without_a_call_stay_apart(tmp_path):
    moves = [Move(thought=None), Move(thought=None, action="other"), Move(action=None), finish()]
    [trajectory] = answer_of(tmp_path, moves).trajectories
    assert [(step.thought is None, step.action) for step in trajectory.steps] == [
        (True, "daily_forecast_for_sky_watch"),
        (True, "other"),
        (False, None),
        (False, "Finish"),
    ]


def test_every_try_of_cot_is_a_trajectory(tmp_path):
    answer = answer_of(tmp_path, [finish(GIVE_UP), Move(), finish(GIVE_UP), finish()], "CoT@5")
    assert [shape(each) for each in answer.trajectories] == [
        ["Finish"],
        ["daily_forecast_for_sky_watch", "Finish"],
        ["Finish"],
    ]
    assert answer.outcome == "answered"


def test_a_chain_at_its_limit_says_where_it_was_stopped(tmp_path):
    answer = answer_of(tmp_path, [Move()] * 6, max_step=6)
    assert [step.pruned for step in answer.trajectories[0].steps] == [False, True]
    assert answer.outcome == "no_answer"


def test_a_dfs_tree_forks_where_several_ways_were_tried(tmp_path):
    moves = [Move(action="a"), finish(GIVE_UP), Move(action="b"), finish()]
    answer = answer_of(tmp_path, moves, "DFS_woFilter_w2")
    assert [shape(each) for each in answer.trajectories] == [[["a", "Finish"], ["b", "Finish"]]]
    assert answer.outcome == "answered"


def test_a_dfs_without_an_answer_gave_up(tmp_path):
    answer = answer_of(tmp_path, [finish(GIVE_UP)] * 4, "DFS_woFilter_w2")
    assert (answer.outcome, answer.final_answer) == ("gave_up", "")


@pytest.mark.parametrize("method", ["CoT@1", "DFS_woFilter_w2", "DFS_w2"])
def test_each_step_gets_its_own_time_however_the_tree_was_searched(tmp_path, method):
    """Generation k takes k seconds and its call k tenths, so that a mix-up shows; some steps are equal."""
    moves = [
        Move(action=name, arguments=arguments, generation_s=k, call_s=k / 10, tokens=k)
        for k, (name, arguments) in enumerate([("a", "{}"), ("b", "{}"), ("b", '{"k": 1}'), ("c", "{}")], start=1)
    ]
    moves += [Move(action=f"d{k}", generation_s=k, call_s=k / 10, tokens=k) for k in range(5, 30)]
    if method == "CoT@1":
        moves.insert(3, Move(action=None, thought="Let me think.", generation_s=40, tokens=40))
    if method == "DFS_w2":  # ranking asks the model too
        moves = [each for move in moves for each in (move, move)]
    answer = answer_of(tmp_path, moves[:60] + [finish()] * 100, method, max_step=9)
    [attempt] = read_history(tmp_path).attempts()["7", method]
    add_timings(answer.trajectories, attempt)
    steps = list(answer.steps())
    assert len(steps) > 2
    for step in steps:
        assert step.generation is not None
        move = next(
            m
            for m in [*moves, finish()]
            if m.action == step.action and (step.action is None or m.arguments == step.arguments)
        )
        assert step.generation.seconds == pytest.approx(move.generation_s)
        assert step.generation.tokens == move.tokens
        if step.action is not None:
            assert step.call.seconds == pytest.approx(move.call_s)


def test_without_events_steps_have_no_times(tmp_path):
    answer = answer_of(tmp_path, [finish()])
    assert answer.trajectories[0].steps[0].generation is None


@pytest.mark.parametrize("node", [{}, {"node_type": 3, "description": None}, {"observation_code": "5", "children": 4}])
def test_odd_nodes_are_shown_as_far_as_they_go(node):
    assert len(chain_trajectory([node]).steps) == 1
    assert len(tree_trajectory({"children": [node, node]}).branches) == 2


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"win": true}', '{"answer_generation": 3, "win": 1, "trys": []}']
)
def test_an_answer_that_cannot_be_read_is_said_to_be_so(tmp_path, content):
    (tmp_path / "7_CoT@1.json").write_text(content)
    [answer] = read_answers(tmp_path)
    assert (answer.query_id, answer.outcome) == ("7", "unreadable")
    assert "7_CoT@1.json is not a whole answer file" in answer.error


def test_only_answers_are_read(tmp_path):
    for name in ("run.json", "failures.json", ".7_CoT@1.json", "7_CoT@1.json.part", "notes.txt"):
        (tmp_path / name).write_text("[]")
    assert read_answers(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("7_CoT@1", ("7", "CoT@1")),
        ("7_DFS_woFilter_w2", ("7", "DFS_woFilter_w2")),
        ("a_b_CoT@3", ("a_b", "CoT@3")),
    ],
)
def test_id_and_method_are_told_apart(tmp_path, name, parts):
    (tmp_path / f"{name}.json").write_text(json.dumps({}))
    [answer] = read_answers(tmp_path)
    assert (answer.query_id, answer.method) == parts
