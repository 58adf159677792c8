"""OpenAI's codex, headless: `codex exec`, which speaks responses only."""

import json
import os
import sys

from checks import CLAUDE, EVERY, GEMINI, GPT, KEY, UNKNOWN, URL, check, once, run, within
from command import command, directory, package, printed

CONFIG = """
model = "{model}"
model_provider = "gateway"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.gateway]
name = "gateway"
base_url = "{url}/v1"
env_key = "GATEWAY_KEY"
wire_api = "responses"
stream_max_retries = 2
request_max_retries = 2
[mcp_servers.sums]
command = "{python}"
args = ["{mcp_server}"]
"""
MCP_SERVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mcp_server.py")


def codex(model, prompt):
    """Its process, and the items and errors that it tells of."""
    home = directory()
    os.mkdir(os.path.join(home, ".codex"))
    with open(os.path.join(home, ".codex/config.toml"), "w") as file:
        file.write(CONFIG.format(model=model, url=URL, python=sys.executable, mcp_server=MCP_SERVER))
    flags = ("exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")
    done = command("node", package(".bin/codex"), *flags, prompt, cwd=home, GATEWAY_KEY=KEY)
    return done, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def last_words(done, events):
    printed(done)
    words = [e["item"]["text"] for e in events if e.get("item", {}).get("type") == "agent_message"]
    assert words, events
    return words[-1]


@check(*EVERY)
def plain_turn(model):
    assert last_words(*codex(model, "[[say It is done.]]")) == "It is done."


@check(*EVERY)
def tool_turn(model):
    """A command runs here, and what it printed reaches the model."""
    order = '[[call exec_command {"cmd":"echo $((40+2))"}]]'
    within(last_words(*codex(model, order)), "The tools said:", "42")


@check(CLAUDE, GEMINI)
def tool_of_a_server(model):
    """It stands in a group, which these models do not know: they call it by one name, and codex finds it by its group."""
    order = '[[call mcp__sums__add {"a":40,"b":2}]]'
    within(last_words(*codex(model, order)), "The tools said:", "It is 42.")


@check(*EVERY)
def rate_limited_once(model):
    assert last_words(*codex(model, f"{once()} [[say At last.]]")) == "At last."


@check(UNKNOWN)
def unknown_model(model):
    done, events = codex(model, "Hello")
    assert done.returncode != 0, events
    within(json.dumps(events) + done.stderr, model)


run()
