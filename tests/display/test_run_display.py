"""What a person sees of a run: one live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import fcntl
import io
import os
import signal
import struct
import subprocess
import termios
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from evaluation.toolbench.inference.multi_gpu.units import GIB
from evaluation.toolbench.inference.records.cache_use import CacheUse
from evaluation.toolbench.inference.records.rates import Rates
from evaluation.toolbench.inference.run_display.display import RunDisplay, allows_live_display
from evaluation.toolbench.inference.run_display.figures import Trend
from evaluation.toolbench.inference.run_display.frames import frame, heartbeat
from evaluation.toolbench.inference.run_display.status import ReplicaStatus, RunStatus, SetStatus
from tests.helpers.terminal import HIDE_CURSOR, run_on_terminal, screen


def replica(name: str = "replica 0", **values: object) -> ReplicaStatus:
    return ReplicaStatus(**{"name": name, "gpus": ("cuda:0",), "state": "running", **values})


def status(
    elapsed_s: float,
    *replicas: ReplicaStatus,
    answered: int = 0,
    gave_up: int = 0,
    no_answer: int = 0,
    failed: int = 0,
    load_s: float = 0.0,
) -> RunStatus:
    serving_s = elapsed_s - load_s if elapsed_s > load_s else None
    return RunStatus(100, answered, gave_up, no_answer, failed, elapsed_s, replicas, serving_s)


def drawn(figures, width: int, height: int | None = None) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(frame(figures, width, height))
    return console.file.getvalue()


BUSY = status(
    60.0,
    replica(
        in_flight=16,
        num_tokens=5000,
        api_calls=1234,
        api_errors=12,
        cache=CacheUse(hits=605, fuzzy_hits=5, misses=617),
        gpu_memory=((61 * GIB, 80 * GIB),),
    ),
    replica("replica 1", gpus=("cuda:1", "cuda:2"), state="restarting", gpu_memory=((GIB, 24 * GIB), (GIB, 24 * GIB))),
    answered=20,
    gave_up=2,
    no_answer=1,
    failed=2,
    load_s=10.0,
)


def test_the_runs_rates_are_of_all_its_time_and_a_replicas_of_the_last_half_minute():
    trend = Trend()
    assert trend.take(status(0.0, replica())).rates == Rates()
    assert trend.take(status(10.0, replica(num_tokens=1000))).rates.tokens_per_s == 100
    for second in range(11, 101):
        figures = trend.take(status(second, replica(num_tokens=1000), replica("replica 1", num_tokens=20 * second)))
    assert figures.rates.tokens_per_s == 30
    assert figures.replica_tokens_per_s == {"replica 0": 0, "replica 1": 20}


def test_neither_rates_nor_the_time_left_count_the_loading_of_the_model():
    trend = Trend()
    loading = trend.take(status(500.0, replica(state="loading"), load_s=600.0))
    assert (loading.rates, loading.left_s) == (Rates(), None)
    assert " · loading · " in heartbeat(loading)
    figures = trend.take(status(700.0, replica(num_tokens=5000), answered=20, failed=5, load_s=600.0))
    assert figures.rates == Rates(tokens_per_s=50, queries_per_min=12)
    assert figures.left_s == 300
    assert trend.take(status(900.0, replica(), answered=100, load_s=600.0)).left_s == 0


def test_queries_that_failed_are_in_no_rate():
    assert status(60.0, replica(), failed=100).rates.queries_per_min == 0


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 10**9), st.integers(0, 100)), min_size=1, max_size=30),
    st.integers(20, 200),
    st.integers(1, 60),
    st.integers(1, 9),
    st.integers(0, 6),
)
def test_whatever_the_numbers_are_the_frame_fits_its_terminal(moments, width, height, num_replicas, num_sets):
    trend = Trend()
    others = [replica(f"replica {number}") for number in range(1, num_replicas)]
    for elapsed_s, tokens, answered in sorted(moments):
        now = status(elapsed_s, replica(num_tokens=tokens), *others, answered=answered)
        figures = trend.take(replace(now, sets=tuple(SetStatus(f"G{n}", 9) for n in range(num_sets))))
    assert figures.rates.tokens_per_s is None or figures.rates.tokens_per_s >= 0
    lines = drawn(figures, width, height).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= max(height, 3)  # what is left and the time are never given up
    assert "\n" not in heartbeat(figures)


def test_a_wide_frame_says_everything():
    trend = Trend()
    trend.take(status(10.0, replica(), replica("replica 1")))
    text = drawn(trend.take(BUSY), 120)
    for part in (
        "25 of 100 queries",
        "20 answered · 2 gave up · 1 no answer · 2 failed · 75 left · 1:00 elapsed · about 2:30 to go",
        "27.6 queries/min · 100 tokens/s · 1,234 API calls · 605 hits (5 fuzzy) · 617 not recorded (50.0%)",
        "12 errors (1.0%)",
        "tokens/s (30 s)",
        "61.0/80.0 GiB",
        "1.0/24.0 + 1.0/24.0 GiB",
        "cuda:1, cuda:2",
        "restarting",
    ):
        assert part in text


def test_simulated_replies_stand_between_hits_and_what_is_not_recorded():
    cache = CacheUse(hits=590, fuzzy_hits=5, misses=617, simulated=15)
    figures = Trend().take(status(60.0, replica(api_calls=1234, cache=cache)))
    words = "1,234 API calls · 590 hits (5 fuzzy) · 15 simulated (1.2%) · 617 not recorded (50.0%)"
    assert words in drawn(figures, 160)
    assert words in heartbeat(figures)


def test_a_narrow_frame_keeps_what_matters_most():
    text = drawn(Trend().take(BUSY), 40)
    for part in ("25 of 100 queries", "2 failed", "75 left", "replica 1", "restarting", "16"):
        assert part in text


def test_a_tiny_terminal_shows_how_far_the_run_is_and_the_first_replica():
    three = replace(BUSY, replicas=(*BUSY.replicas, replica("replica 2")))
    assert [line.rstrip() for line in drawn(Trend().take(three), 20, 6).splitlines()] == [
        "╸  25 of 100 queries",
        "75 left · 2 failed",
        "about 2:30 to go",
        "           state",
        "replica 0  running",
        "+ 2",
    ]


def test_sets_without_room_are_counted_and_replicas_come_first():
    figures = Trend().take(replace(BUSY, sets=(*SETS, SetStatus("G2_category", 9), SetStatus("G2_tool", 9))))
    lines = drawn(figures, 120, 9).splitlines()
    assert len(lines) == 9
    assert [line.split()[0] for line in lines[3:]] == ["set", "G1_instruction", "+", "GPUs", "replica", "replica"]


def test_prompts_that_are_read_and_busy_gpus_have_columns_where_there_is_room():
    trend = Trend()
    trend.take(status(10.0, replica()))
    now = trend.take(status(20.0, replica(num_prompt_tokens=12_340, gpu_busy=(97,), gpu_memory=((GIB, 24 * GIB),))))
    wide = drawn(now, 120)
    for part in ("prompt tokens/s", "1,234", "GPU busy", "97%"):
        assert part in wide
    narrow = drawn(now, 80)
    assert "GPU busy" in narrow
    assert "prompt" not in narrow
    assert "replica 0: 0 in flight, 1.0/24.0 GiB, GPU busy 97%" in heartbeat(now)


def test_a_gpu_that_does_not_say_how_busy_it_is_is_not_called_idle():
    assert "N/A" in drawn(Trend().take(status(1.0, replica(gpu_busy=(None,)))), 120)
    assert "GPU busy" not in drawn(Trend().take(status(1.0, replica(gpus=()))), 120)


def test_the_heartbeat_has_the_same_figures_in_one_line():
    trend = Trend()
    trend.take(status(10.0, replica(), replica("replica 1")))
    assert heartbeat(trend.take(BUSY)) == (
        "25 of 100 queries · 20 answered · 2 gave up · 1 no answer · 2 failed · 27.6 queries/min · 100 tokens/s · "
        "1,234 API calls · 605 hits (5 fuzzy) · 617 not recorded (50.0%) · 12 errors (1.0%) · "
        "replica 0: 16 in flight, 61.0/80.0 GiB · replica 1: restarting, 1.0/24.0 + 1.0/24.0 GiB · "
        "1:00 elapsed · about 2:30 to go"
    )


def test_many_replicas_are_one_short_part_of_the_heartbeat():
    gpu = ((40 * GIB, 80 * GIB),)
    replicas = [replica(f"replica {n}", in_flight=100, gpu_memory=gpu) for n in range(7)]
    line = heartbeat(Trend().take(status(60.0, *replicas, replica("replica 7", state="loading", gpu_memory=gpu))))
    assert "8 replicas: 7 running, 1 loading, 700 in flight, 8 x 40.0/80.0 GiB" in line
    assert len(line) < 220


def test_one_replica_over_many_cards_keeps_its_rate_and_its_memory():
    gpus = tuple(f"cuda:{index}" for index in range(8))
    one = replica(gpus=gpus, in_flight=64, num_tokens=100, gpu_memory=((GIB, 24 * GIB),) * 7 + ((0, 24 * GIB),))
    trend = Trend()
    trend.take(status(1.0, replica(gpus=gpus)))
    text = drawn(trend.take(status(2.0, one)), 80)
    for part in ("tokens/s (30 s)", "7/192 GiB", "cuda:0-7"):
        assert part in text


SETS = (SetStatus("G1_instruction", 163, answered=20, failed=2), SetStatus("G3_instruction", 61, gave_up=1))


def test_every_set_of_several_has_a_line_that_fits():
    figures = Trend().take(replace(BUSY, sets=SETS))
    wide = drawn(figures, 120)
    assert "G1_instruction  22/163        20        0          0       2" in wide
    assert "G3_instruction    1/61         0        1          0       0" in wide
    narrow = drawn(figures, 40)
    assert max(map(len, narrow.splitlines())) <= 40
    assert "G3_instruction    1/61" in narrow
    assert "G1_instruction 22/163 · G3_instruction 1/61" in heartbeat(figures)


def test_a_column_that_does_not_fit_leaves_its_room_to_those_that_do():
    wide = replica(gpus=("a card of which the name is longer than the terminal is wide",), api_calls=7, api_errors=3)
    assert "errors" in drawn(Trend().take(status(60.0, wide)), 50)


class Stream(io.StringIO):
    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize(
    ("is_terminal", "environment", "allowed"),
    [
        (True, {"TERM": "xterm"}, True),
        (True, {"TERM": "xterm", "NO_COLOR": "", "CI": "false"}, True),
        (False, {"TERM": "xterm"}, False),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, True),  # which is about colours
        (True, {"TERM": "xterm", "JPY_PARENT_PID": "17"}, False),
        (True, {"TERM": "xterm", "COLAB_RELEASE_TAG": "release"}, False),
        (True, {"TERM": "xterm", "CI": "true"}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {}, False),
    ],
)
def test_only_a_capable_terminal_of_a_person_gets_a_live_display(is_terminal, environment, allowed):
    assert allows_live_display(Stream(is_terminal), environment) is allowed


def test_without_a_terminal_there_is_a_line_every_30_seconds_and_one_at_the_end(capsys):
    with RunDisplay() as display:
        for second in range(100):
            display.show(status(float(second), replica(), answered=second))
        display.print_line("replica 1 has crashed [bold]")
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert "\x1b" not in err
    assert [line.split()[0] for line in lines] == ["30", "60", "90", "replica", "99"]
    assert lines[3] == "replica 1 has crashed [bold]"


def test_without_a_terminal_compiling_is_told_when_it_begins_and_when_it_is_over(capsys):
    with RunDisplay() as display:
        for second, state in enumerate(["loading", "loading", "compiling", "compiling", "running", "running"]):
            display.show(status(float(second), replica(state=state), load_s=3.5))
        told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert " · compiling · " in told[0]
    assert "replica 0: compiling" in told[0]
    assert "replica 0: 0 in flight" in told[1]


PROGRAM = """
import logging, os, signal, sys, time, warnings
from evaluation.toolbench.inference.run_display.status import ReplicaStatus, RunStatus, SetStatus
from evaluation.toolbench.inference.run_display.display import RunDisplay
logging.basicConfig(format="%(message)s")
logging.getLogger("quiet.library").addHandler(logging.StreamHandler())
logging.getLogger("quiet.library").propagate = False
print("before", file=sys.stderr)
with RunDisplay() as display:
    for number in range(6):
        replicas = (ReplicaStatus("replica 0", ("cuda:0",), "running", in_flight=number),)
        display.show(RunStatus(10, number, 0, 0, 0, float(number), replicas))
        logging.getLogger("run").warning("logged %d", number)
        logging.getLogger("quiet.library").warning("of a library %d", number)
        warnings.warn(f"warned {number}")
        print("a result", number)
        display.print_line(f"told [b]{number}[/b] " + "long " * 40)
        time.sleep(0.1)
    EXTRA
logging.getLogger("run").warning("after")
"""


@pytest.mark.parametrize("live", [True, False])
def test_a_terminal_that_is_closed_ends_the_display_and_not_the_run(tmp_path, live):
    program = PROGRAM.replace("EXTRA", "").replace("RunDisplay()", f"RunDisplay(live={live})")
    for line in ("warnings.warn", "print("):  # whose own failures are not the display's
        program = program.replace(f"        {line}", f"        if number < 2: {line}")
    program = program.replace("float(number)", "30.0 * number") + f"\nopen({str(tmp_path / 'end')!r}, 'w').close()\n"
    code, _ = run_on_terminal(program, closed_after=b"told [b]1")
    assert code in (0, 120)  # 120: at its very end Python still had something for the terminal
    assert (tmp_path / "end").exists()


def numbered(lines: list[str], start: str) -> list[str]:
    return [line for line in lines if line.startswith(start)]


@pytest.mark.parametrize("width", [100, 30])
def test_on_a_terminal_lines_are_printed_above_one_display(width):
    code, written = run_on_terminal(PROGRAM.replace("EXTRA", ""), width=width)
    assert code == 0
    lines = screen(written)
    assert sum("of 10 queries" in line for line in lines) == 1
    for kind in ("logged", "of a library", "told [b]", "a result"):
        assert len(numbered(lines, kind)) == 6
    assert sum("UserWarning" in line for line in lines) == 6
    told = numbered(lines, "told")[-1]
    assert told.count("long") == 40  # one line for the terminal, so that it can be copied as one
    [bar] = [position for position, line in enumerate(lines) if "5 of 10 queries" in line]
    assert lines[0] == "before"
    assert lines.index(told) < bar < lines.index("after")
    assert HIDE_CURSOR not in written


def test_no_color_takes_the_colours_and_leaves_the_display():
    code, written = run_on_terminal(PROGRAM.replace("EXTRA", ""), environment={"NO_COLOR": "1"})
    assert code == 0
    assert b"\x1b[3" not in written
    assert sum("of 10 queries" in line for line in screen(written)) == 1


def test_after_a_resize_the_display_goes_back_over_all_rows_of_its_last_frame():
    """A terminal that became narrow shows a line that no longer fits in several rows."""
    sizes = []

    def narrow(process: subprocess.Popen[bytes], written: bytes) -> None:
        if b"told [b]2" in written and not sizes:
            sizes.append(len(written))
            descriptor = os.open(f"/proc/{process.pid}/fd/2", os.O_RDWR | os.O_NOCTTY)
            fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 30, 0, 0))
            os.close(descriptor)

    program = PROGRAM.replace("EXTRA", "").replace("time.sleep(0.1)", "time.sleep(0.5)")
    _, written = run_on_terminal(program, width=100, while_running=narrow)
    before, after = written[: sizes[0]].split(b"of 10 queries"), written[sizes[0] :].split(b"of 10 queries")
    rows_before = max(part.count(b"\x1b[1A") for part in before)
    assert max(part.count(b"\x1b[1A") for part in after[:2]) > rows_before


@pytest.mark.parametrize("variable", ["CI", "JPY_PARENT_PID"])
def test_a_terminal_that_wants_plain_lines_gets_no_cursor_codes(variable):
    code, written = run_on_terminal(PROGRAM.replace("EXTRA", ""), environment={variable: "1"})
    assert code == 0
    assert b"\x1b" not in written
    assert sum("5 of 10 queries" in line for line in screen(written)) == 1


def test_results_in_a_pipe_stay_there_while_the_display_is_live(tmp_path):
    with (tmp_path / "out").open("wb") as out:
        code, written = run_on_terminal(PROGRAM.replace("EXTRA", ""), stdout=out.fileno())
    assert code == 0
    assert (tmp_path / "out").read_text() == "".join(f"a result {number}\n" for number in range(6))
    assert b"a result" not in written


def test_an_exception_leaves_the_display_and_its_traceback_one_below_the_other():
    code, written = run_on_terminal(PROGRAM.replace("EXTRA", "raise ValueError('odd')"))
    lines = screen(written)
    assert code == 1
    assert lines[-2:] == ["ValueError: odd", ""]
    assert sum("5 of 10 queries" in line for line in lines) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_way_to_die_leaves_the_cursor_hidden(number):
    def kill(process: subprocess.Popen[bytes], written: bytes) -> None:
        if b"told [b]5" in written:
            process.send_signal(number)

    code, written = run_on_terminal(PROGRAM.replace("EXTRA", "time.sleep(60)"), while_running=kill)
    assert code == -number
    assert HIDE_CURSOR not in written
