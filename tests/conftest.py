import contextlib
import os
import signal

# Tiny models lose far more to threads than they gain, and the tests' own processes share the cores. Before
# anything imports torch, so that every process started here inherits it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Shells start background jobs with these ignored, and every process that the tests start would inherit it.
with contextlib.suppress(ValueError):  # not the main thread
    for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(_number) == signal.SIG_IGN:
            signal.signal(_number, _handler)
