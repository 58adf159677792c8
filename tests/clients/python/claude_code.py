"""Claude Code, headless: `claude -p`."""

import json

from checks import CLAUDE, EVERY, KEY, UNKNOWN, URL, check, cut_once, once, run, within
from command import command, directory, package

PROGRAM = "@anthropic-ai/claude-code/cli-wrapper.cjs"


def claude(model, prompt, *args, base=URL, **env):
    """What it says at its end."""
    env = {
        "IS_SANDBOX": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "ANTHROPIC_BASE_URL": base,
        "ANTHROPIC_AUTH_TOKEN": KEY,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
    } | env
    flags = ("--model", model, "--output-format", "json")
    done = command("node", package(PROGRAM), "-p", prompt, *flags, *args, cwd=directory(), **env)
    try:
        said = json.loads(done.stdout)
    except ValueError:
        raise AssertionError(f"exit code {done.returncode}: {done.stdout} {done.stderr}") from None
    # A list of everything that happened, or its last member alone.
    return said[-1] if isinstance(said, list) else said


def is_answer(said, text):
    assert not said["is_error"] and said["result"] == text, said


@check(*EVERY)
def plain_turn(model):
    said = claude(model, "[[say It is done.]]")
    is_answer(said, "It is done.")
    assert said["usage"]["output_tokens"] > 0 and said["usage"]["input_tokens"] > 0, said


@check(*EVERY)
def tool_turn(model):
    """The tool runs here, and what it printed reaches the model."""
    order = '[[call Bash {"command":"echo $((40+2)) > made.txt; cat made.txt","description":"Makes a file"}]]'
    said = claude(model, order, "--allowedTools", "Bash")
    assert not said["is_error"] and said["num_turns"] == 2, said
    within(said["result"], "The tools said:", "42")


@check(*EVERY)
def parallel_tools(model):
    orders = " ".join(f'[[call Bash {{"command":"echo is-{n}","description":"Says it"}}]]' for n in ("a", "b", "c"))
    said = claude(model, orders, "--allowedTools", "Bash")
    within(said["result"], "is-a", "is-b", "is-c")


@check(*EVERY)
def rate_limited_once(model):
    is_answer(claude(model, f"{once()} [[say At last.]]"), "At last.")


@check(*EVERY)
def stream_cut(model):
    """It asks again; where that does not help, the user is told."""
    is_answer(claude(model, f"{cut_once()} [[say The whole answer, in the end.]]"), "The whole answer, in the end.")
    impatient = {"CLAUDE_CODE_MAX_RETRIES": "1", "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1"}
    said = claude(model, "[[cut 4]] [[say The whole answer, in the end.]]", **impatient)
    assert said["is_error"], said


@check(CLAUDE)
def refused(model):
    said = claude(model, "[[refuse 400 This is not allowed here]]")
    assert said["is_error"] and said["api_error_status"] == 400, said
    within(said["result"], "This is not allowed here")


@check(UNKNOWN)
def unknown_model(model):
    said = claude(model, "Hello")
    assert said["is_error"], said
    within(said["result"], model)


@check(CLAUDE)
def ways_to_set_it_up(model):
    """A key by `x-api-key`, one by a helper (both headers), and the base URL with a path."""
    is_answer(claude(model, "[[say One.]]", ANTHROPIC_AUTH_TOKEN=None, ANTHROPIC_API_KEY=KEY), "One.")
    helper = json.dumps({"apiKeyHelper": f"echo {KEY}"})
    is_answer(claude(model, "[[say Two.]]", "--settings", helper, ANTHROPIC_AUTH_TOKEN=None), "Two.")
    is_answer(claude(model, "[[say Three.]]", base=f"{URL}/anthropic"), "Three.")


@check(*EVERY)
def structured_output(model):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    said = claude(model, '[[call StructuredOutput {"city":"Oslo"}]]', "--json-schema", json.dumps(schema))
    assert said["structured_output"] == {"city": "Oslo"}, said


run()
