"""Claude Code, headless: `claude -p`."""

import base64
import json
import os
import signal
import subprocess

from behind import rows, sent
from checks import CLAUDE, EVERY, GEMINI, GPT, KEY, PNG, UNKNOWN, URL, check, cut_once, once, run, within
from command import command, directory, environment, package
from tap import Tap

PROGRAM = "@anthropic-ai/claude-code/cli-wrapper.cjs"
# Of a prompt whose answer breaks off nobody says how long it was. farebox counts its words and the emulator its bytes: of a
# short one the difference is small.
SHORT = ("--system-prompt", "Be brief.", "--tools", "")


def settings(model, base, **env):
    return {
        "IS_SANDBOX": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "ANTHROPIC_BASE_URL": base,
        "ANTHROPIC_AUTH_TOKEN": KEY,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
    } | env


def words(model, prompt, *args):
    """The command that asks, and tells all that happens."""
    tell = ("--output-format", "stream-json", "--verbose")
    return ("node", package(PROGRAM), "-p", prompt, "--model", model, *tell, *args)


def events(model, prompt, *args, base=URL, cwd=None, **env):
    """All that happened."""
    done = command(*words(model, prompt, *args), cwd=cwd or directory(), **settings(model, base, **env))
    try:
        return [json.loads(line) for line in done.stdout.splitlines()]
    except ValueError:
        raise AssertionError(f"exit code {done.returncode}: {done.stdout} {done.stderr}") from None


def claude(model, prompt, *args, **more):
    """What it says at its end."""
    return events(model, prompt, *args, **more)[-1]


def blocks(said, kind):
    """What the model said of this kind, over all turns."""
    spoken = [event["message"]["content"] for event in said if event["type"] == "assistant"]
    return [block for content in spoken for block in content if block["type"] == kind]


def results(said):
    """What tools brought, as texts."""
    heard = [event["message"]["content"] for event in said if event["type"] == "user"]
    found = [block["content"] for content in heard for block in content if block["type"] == "tool_result"]
    return [content if isinstance(content, str) else json.dumps(content) for content in found]


def call(tool, **arguments):
    """An order to call a tool. Orders within its arguments are not for who reads this one."""
    text = json.dumps(arguments).replace("[[", "\\u005b\\u005b").replace("]]", "\\u005d\\u005d")
    return f"[[call {tool} {text}]]"


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
    said = claude(model, f"{cut_once()} [[say The whole answer, in the end.]]", *SHORT)
    is_answer(said, "The whole answer, in the end.")
    impatient = {"CLAUDE_CODE_MAX_RETRIES": "1", "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1"}
    said = claude(model, "[[cut 4]] [[say The whole answer, in the end.]]", *SHORT, **impatient)
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


@check(*EVERY)
def parallel_agents(model):
    """Two of them, at once; what they found goes back to who sent them."""
    def agent(what):
        prompt = f"[[slow 300 4]] [[say Found {what}.]]"
        return call("Agent", description="Finds it", prompt=prompt, subagent_type="general-purpose", run_in_background=False)

    with Tap() as tap:
        said = events(model, agent("this") + agent("that"), "--allowedTools", "Agent", base=tap.url)
        within(results(said), "Found this.", "Found that.")
        within(sent(model)[1], "Found this.", "Found that.")
        one, other = [asked for asked in tap.asked if "x-claude-code-agent-id" in asked.headers]
        assert one.overlaps(other), (one.began, one.ended, other.began, other.ended)
    # The session is one, whoever asked in it.
    assert len(rows(4, session_id=said[-1]["session_id"])) == 4


@check(*EVERY)
def context(model):
    """`/context` counts tokens, many at once."""
    with Tap() as tap:
        said = claude(model, "/context", base=tap.url, CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=None)
        within(said["result"], "Context Usage", model)
        counted = tap.of("/v1/messages/count_tokens")
        assert len(counted) > 3, [asked.path for asked in tap.asked]
        for asked in counted:
            assert asked.status == 200 and json.loads(asked.answer)["input_tokens"] > 0, (asked.body, asked.answer)


@check(CLAUDE)
def discovery(model):
    """Models of farebox whose names say Claude are offered."""
    enabled = {"CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": None}
    home = directory()
    with Tap() as tap:
        is_answer(claude(model, "[[slow 300 5]] [[say Found.]]", base=tap.url, cwd=home, **enabled), "Found.")
        (asked,) = tap.of("/v1/models")
        assert asked.path == "/v1/models?limit=1000" and asked.status == 200, (asked.path, asked.status)
    with open(os.path.join(home, ".claude/cache/gateway-models.json")) as file:
        offered = {row["id"] for row in json.load(file)["models"]}
    assert CLAUDE in offered and GPT not in offered, offered


@check(*EVERY)
def image(model):
    """What it reads of a picture is seen by the model; at Anthropic the whole request is the one that it sent."""
    home = directory()
    with open(os.path.join(home, "red.png"), "wb") as file:
        file.write(base64.b64decode(PNG))
    with Tap() as tap:
        order = call("Read", file_path=os.path.join(home, "red.png"))
        said = claude(model, order, "--allowedTools", "Read", base=tap.url, cwd=home)
        within(said["result"], "I see 1 (image/png of 73 bytes)")
        last = tap.of("/v1/messages")[-1]
        _, body = sent(model)
        assert PNG in last.body.decode() and PNG in body, body
        if model == CLAUDE:
            assert body == last.body.decode()


@check(CLAUDE)
def unchanged(model):
    """Marks for the cache, betas, all else: Anthropic reads what it wrote."""
    with Tap() as tap:
        is_answer(claude(model, "[[say Whole.]]", base=tap.url), "Whole.")
        asked = tap.of("/v1/messages")[-1]
    headers, body = sent(model)
    assert body == asked.body.decode() and body.count('"cache_control"') >= 2, body
    for name in ("anthropic-beta", "anthropic-version"):
        assert headers[name] == asked.headers[name], headers
    assert "authorization" not in headers and KEY not in json.dumps(headers), headers


@check(*EVERY)
def tool_search(model):
    """Most of its tools are shown once the model has searched for them; the next turn says all of it again."""
    home = directory()
    with Tap() as tap:
        events(model, call("ToolSearch", query="select:CronList", max_results=1), base=tap.url, cwd=home)
        assert b'"tool_reference"' in tap.of("/v1/messages")[1].body, tap.asked
        said = events(model, call("CronList"), "--continue", "--allowedTools", "CronList", base=tap.url, cwd=home)
        assert [asked.status for asked in tap.of("/v1/messages")] == [200] * 4, tap.asked
    within(said[-1]["result"], "The tools said: No scheduled jobs")


def search(model, **more):
    order = call("WebSearch", query="tea")
    return events(model, order, "--allowedTools", "WebSearch", ENABLE_TOOL_SEARCH="0", **more)


@check(CLAUDE, "claude-ceiling")
def web_search(model):
    """Anthropic searches by itself, and is paid for it."""
    said = search(model)
    within(results(said), "https://emulator.invalid/", "What the emulator found for:")
    assert sum(row["searches"] or 0 for row in rows(3, session_id=said[-1]["session_id"])) == 1


@check(GPT, GEMINI)
def web_search_elsewhere(model):
    """Nobody else can: the model is told, and goes on."""
    said = search(model)
    within(results(said), "web_search_20250305")
    within(said[-1]["result"], "The tools said:")


@check("claude-bounded")
def web_search_without_a_bound(model):
    """A hard budget without a ceiling does not let it out, and names the field."""
    within(results(search(model)), "tools[0].type", "bounded")


def thought(model):
    """What happened while it thought and called a tool."""
    order = call("Bash", command="echo $((40+2))", description="Counts")
    said = events(model, order, "--allowedTools", "Bash")
    within(said[-1]["result"], "The tools said: 42")
    return said


@check(CLAUDE, "claude-ceiling")
def thinking(model):
    """With a budget, or as long as the model wants; what was thought goes back as it came."""
    assert blocks(thought(model), "thinking")
    asked = json.loads(sent(CLAUDE)[1])
    assert asked["thinking"]["type"] == ("enabled" if model == CLAUDE else "adaptive"), asked["thinking"]
    within(asked["messages"], "'type': 'thinking'")


@check(GEMINI, "gemini-3-pro", "claude-haiku-4-5")
def thinking_at_gemini(model):
    """The same, with proofs of Gemini's."""
    assert blocks(thought(model), "thinking")
    _, body = sent({"gemini-3-pro": "gemini-3-pro-preview", "claude-haiku-4-5": GEMINI}.get(model, model))
    within(body, '"includeThoughts":true', "thoughtSignature")


@check("o4-mini", "gpt-5", "claude-opus-4-5")
def thinking_at_openai(model):
    """Both ways of asking for it become an effort."""
    thought(model)
    _, body = sent({"claude-opus-4-5": "o4-mini"}.get(model, model))
    asked = json.loads(body)
    assert (asked.get("reasoning_effort") or asked["reasoning"]["effort"]) == "high", body


@check(CLAUDE)
def keys(model):
    """A helper's key goes into both headers, and is asked for again once it is refused; two keys are one too many."""
    home = directory()
    helper = os.path.join(home, "helper.sh")
    with open(helper, "w") as file:
        file.write(f"[ -e {home}/asked ] && echo {KEY} || echo fb-old-{'0' * 32}; touch {home}/asked")
    given = ("--settings", json.dumps({"apiKeyHelper": f"sh {helper}"}))
    with Tap() as tap:
        is_answer(claude(model, "[[say New.]]", *given, base=tap.url, ANTHROPIC_AUTH_TOKEN=None), "New.")
        asked = tap.of("/v1/messages")
        assert [one.status for one in asked][0] == 401 and asked[-1].status == 200, [one.status for one in asked]
        headers = asked[-1].headers
        assert headers["authorization"] == f"Bearer {KEY}" and headers["x-api-key"] == KEY, headers
        # Another provider's key beside farebox's own does no harm.
        is_answer(claude(model, "[[say Both.]]", base=tap.url, ANTHROPIC_API_KEY="sk-ant-else"), "Both.")


@check(*EVERY)
def session(model):
    said = claude(model, "[[say In a session.]]")
    (row,) = rows(1, session_id=said["session_id"])
    assert (row["model"], row["outcome"]) == (model, "ok"), row
    written = row["output_tokens"] + (row["reasoning_tokens"] or 0)
    assert written == said["usage"]["output_tokens"], (row, said["usage"])


@check(CLAUDE, GPT)
def long_silence(model):
    """It gives a connection up after 15 s without a byte, and does not here."""
    patience = {"CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS": "15000", "CLAUDE_ENABLE_BYTE_WATCHDOG": "1"}
    with Tap() as tap:
        is_answer(claude(model, "[[silent 18000 3]] [[say At last.]]", base=tap.url, **patience), "At last.")
        (asked,) = tap.of("/v1/messages")
        assert b"event: ping" in asked.answer, asked.answer


@check(*EVERY)
def interrupted(model):
    """Stopped in the middle of an answer: what was made of it has a row."""
    home = directory()
    prompt = "[[slow 200 100]] [[say " + "word " * 200 + "]]"
    env = environment(home, **settings(model, URL))
    asks = subprocess.Popen(
        words(model, prompt, "--include-partial-messages", *SHORT), cwd=home, env=env, text=True, bufsize=1,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )
    for line in asks.stdout:
        event = json.loads(line)
        if event.get("event", {}).get("type") == "content_block_delta":
            break
    # As Ctrl-C does.
    os.killpg(asks.pid, signal.SIGINT)
    asks.stdout.read()
    asks.wait(timeout=20)
    (row,) = rows(1, session_id=event["session_id"])
    assert (row["outcome"], row["estimated"]) == ("cancelled", True), row
    if model == CLAUDE:
        # It thought, and nobody has said how much: that costs what was reserved.
        assert row["cost"] == row["bound"] > 0, row
    else:
        assert row["input_tokens"] > 0 and row["output_tokens"] > 0 and 0 < row["cost"] < row["bound"], row


run()
