"""What the scripts of the two SDKs share: how farebox comes to refuse, and how a call ended in its row.

Both SDKs are made by the same generator: they count their tries in a header, and can make keys of idempotency.
"""

import asyncio
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import nats

from behind import rows
from checks import LARGE, NARROW_KEY, TOO_LARGE, fresh

WITHIN = 20
TASK, SAME = "farebox-task-id", "Idempotency-Key"


def tries(error):
    """How often the SDK has asked."""
    return 1 + int(error.response.request.headers["x-stainless-retry-count"])


def refused(ask):
    """By kind: the call that farebox itself refuses, and how often an SDK that has one retry makes it.

    `ask` takes a text, headers, and a key in place of the usual one.
    """
    taken, stopped = fresh(), fresh()
    ask("Hello", {SAME: taken})
    return {
        "forbidden": (1, lambda: ask("Hello", key=NARROW_KEY)),
        "conflict": (1, lambda: ask("Good bye", {SAME: taken})),
        "too_large": (1, lambda: ask("x" * TOO_LARGE)),
        "over_budget": (1, lambda: ask("Hello", {"farebox-max-cost": "0.0000001"})),
        "cancelled": (1, lambda: while_stopped(stopped, lambda: ask("[[wait 60000]]", {SAME: stopped}))),
        "deadline_exceeded": (2, lambda: ask("[[wait 60000]]", {"farebox-timeout": "3s"})),
    }


def while_stopped(request_id, call):
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(call)
        asyncio.run(stop(request_id))
        return answer.result()


async def stop(request_id):
    """Over the bus, as soon as there is such a call."""
    bus = await nats.connect(os.environ["FAREBOX_NATS"], allow_reconnect=False)
    until = time.monotonic() + WITHIN
    receipt = {"cancelled": False}
    while not receipt["cancelled"]:
        assert time.monotonic() < until, receipt
        receipt = json.loads((await bus.request(f"llm.cancel.{request_id}", b"", timeout=WITHIN)).data)
    await bus.close()


def crowd(kind, ask):
    """Why one of three large bodies that come at once is not taken, where there is room for two; those that come again are.

    `ask` takes a text and how often the SDK is to ask again, and returns the answer's.
    """
    order = "[[wait 1000]] [[say Served.]] " + " " * LARGE
    with ThreadPoolExecutor(3) as pool:
        # One that is late finds the room of one that was served: then they come once more.
        for _ in range(10):
            crowded = [pool.submit(ask, order, 0) for _ in range(3)]
            failed = [error for error in (answer.exception() for answer in crowded) if error]
            if failed:
                break
        # Two, if they ran out of room in the same moment.
        assert 1 <= len(failed) <= 2 and all(type(error) is kind for error in failed), failed
        assert list(pool.map(ask, [order] * 3, [5] * 3)) == ["Served."] * 3
    return failed[0]


class SlowBody:
    """One that does not arrive in time, which is 3 s: also where farebox begins to wait late."""

    def __iter__(self):
        yield b"{"
        time.sleep(7)
        yield b"}"


def outcomes(task):
    """How a task's calls ended, once there is a row of one."""
    return [row["outcome"] for row in rows(1, task_id=task)]
