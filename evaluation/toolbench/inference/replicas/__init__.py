"""Works with several copies of the model on one list of items, each known by its id. It knows no particular run.

Reading order: `layout` and `choice` (which replica gets which GPUs), `messages` (what parent and replica say to
each other), `ledger` (which item is where), `handle` (the parent's hold on one start of a replica),
`supervised_replica` (one replica over all its starts) and `supervisor` (the parent's side); `child` (the main of a
replica's process), `replica` (loads, runs items, reports), `meter` (what it counts), `watched_engine`, `limits`, `gate`
and `admission` (what stands between the work and its engine), `memory_sampler`.

A kind of run supplies three things. `run` and `Downstream_tasks.query_replica` are the first kind;
tests/helpers/replica.py is the smallest.

1. A loader, a function of a module that a new process can import: a context manager that loads, yields what can
   be done, and gives back what it held open.

       @contextmanager
       def load(replica: Replica, job: MyJob) -> Iterator[Work]:
           replica.keep_to_share()
           model = ...                                 # on replica.spec.placement, or the GPUs that are visible
           engine = replica.watch.wrap(make_engine(...))
           yield Work.on_threads(run_item, 8)          # run_item(item id): a plain result, or None for a file

   `job` is whatever plain value the run puts in `Setup`. `run_item` is called on many threads at once; work that
   needs no threads gives `Work` a function that begins an item and returns its future. An exception is its item's
   failure; ApiError lets the item be tried again, OutputError and ServerError end the run, EngineStoppedError the
   replica. When `replica.stop` is set, it raises StopRequested at its next step.

2. Hooks for the supervisor: `start` makes a `ProcessHandle(Setup(spec, "my.module:load", job))`, or a
   `ThreadHandle` for a replica in this process; `done(item id, result)` and `failed(item id, problem)` are told of
   every end, once; `is_done(item id)` says whether the result of an item that was lost with its replica is on
   disk, and is False, unless told otherwise, for results that are messages.

3. A call, on the thread that may take signals: `Supervisor(item_ids, layout, hooks, patience).run(stop)`, with a
   layout of `choice.choose_layout` or `layout.one_replica`. Every item that is neither done nor failed when it
   returns is left: the run was stopped, or no replica is alive.
"""
