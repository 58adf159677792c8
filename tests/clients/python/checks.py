"""What the scripts of all clients share: where farebox is, what can be asked for there, and how a check is told.

A script registers its checks with `@check(model, …)`, each of which is run once with each of its models, and ends with
`run()`. A line of output for every one: `ok NAME MODEL`, or `FAILED NAME MODEL: why` and where.
"""

import asyncio
import inspect
import os
import sys
import traceback
import uuid

URL = os.environ["FAREBOX_URL"]
KEY = os.environ["FAREBOX_KEY"]
# Keys that may ask for GEMINI only, and once a minute.
NARROW_KEY = os.environ["FAREBOX_NARROW_KEY"]
LIMITED_KEY = os.environ["FAREBOX_LIMITED_KEY"]

# One of each provider's dialect; the emulator stands behind all of them.
GPT = "gpt-4o-mini"
CLAUDE = "claude-sonnet-4-5"
GEMINI = "gemini-2.5-flash"
EVERY = (GPT, CLAUDE, GEMINI)
# Which of OpenAI's it is that thinks.
GPT_THINKS = "gpt-5-mini"
THINKERS = (GPT_THINKS, CLAUDE, GEMINI)
UNKNOWN = "no-such-model"
EMBEDDINGS = ("text-embedding-3-small", "gemini-embedding-001")

# A red square of two by two.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR42mP4z8AARAwQCgAf7gP9Y167"
    "WwAAAABJRU5ErkJggg=="
)

# Bytes: of one body that is too large, and of one for two of which there is room at a time.
TOO_LARGE = 2 << 20
LARGE = 3 << 19

_checks = []


def check(*models):
    def add(function):
        _checks.append((function, models))
        return function

    return add


def fresh():
    """An id that nobody else has."""
    return uuid.uuid4().hex


def once(seconds=1):
    """An order to refuse the first attempt with 429."""
    return f"[[once 429 {seconds} {fresh()}]]"


def cut_once(pieces=4):
    """An order to break the first stream off."""
    return f"[[cut {pieces} {fresh()}]]"


def raises(kind, call):
    """The exception of this class, and of no other, that the call ends with."""
    try:
        call()
    except Exception as error:
        assert type(error) is kind, f"{type(error).__name__} instead of {kind.__name__}: {error}"
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def within(text, *parts):
    for part in parts:
        assert part in str(text), f"`{part}` is not in: {text}"


def run():
    wanted = sys.argv[1:]
    failed = 0
    for function, models in _checks:
        name = function.__name__
        if wanted and name not in wanted:
            continue
        for model in models:
            try:
                outcome = function(model)
                if inspect.isawaitable(outcome):
                    asyncio.run(outcome)
                print(f"ok {name} {model}", flush=True)
            except Exception as error:
                failed += 1
                print(f"FAILED {name} {model}: {type(error).__name__}: {error}", flush=True)
                here = os.path.dirname(__file__)
                frames = traceback.extract_tb(error.__traceback__)[1:]
                for frame in (frame for frame in frames if frame.filename.startswith(here)):
                    print(f"    {frame.filename}:{frame.lineno}: {frame.line}", flush=True)
    sys.exit(1 if failed else 0)
