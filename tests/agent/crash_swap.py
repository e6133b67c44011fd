"""Run one swap and die, as if by kill -9, at the given step: ``crash_swap.py DATA_DIR POOL SERVER JOB STEP [back]``.

Steps are counted over everything durable that a swap does; with ``back`` from the moment on that it turns back. Prints the step
before which it dies, or how the swap ended when that was before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from strongroom.agent import Agent, registry
from strongroom.agent.runtimes import lifecycle
from strongroom.agent.swap import outside, swap
from strongroom.errors import ServerFailed
from strongroom.settings import load


def main(data_dir: str, pool: str, server: str, job: str, step: str, direction: str = "forward") -> None:
    left = int(step)
    counting = direction == "forward"

    def reach(name: str, *args: Any) -> None:
        nonlocal left, counting
        counting = counting or any(isinstance(a, swap.Journal) and a.phase == direction for a in args)
        left -= counting
        if left < 0:
            print(f"died before {name}", flush=True)
            os._exit(9)

    def wrap(owner: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            reach(name, *args)
            return original(*args, **kwargs)

        setattr(owner, name, wrapped)

    agent = Agent(load(None, service={"data_dir": data_dir}, agent={"pool": pool, "start_timeout": 30}))
    agent.start()
    wrap(swap, "_rename")
    for name in ("_make", "_rename", "_rename_entry", "_remove"):
        wrap(outside, name)
    wrap(swap.Swapper, "_save")
    wrap(registry.Registry, "save")
    wrap(lifecycle.Lifecycle, "stop")
    wrap(lifecycle.Lifecycle, "launch")
    wrap(lifecycle.Lifecycle, "wait_ready")
    try:
        agent.servers.swap(server, job)
        print("went forward", flush=True)
    except ServerFailed as error:
        print(f"went back: {error.message.splitlines()[0]}", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
