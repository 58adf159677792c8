"""opencode, headless: `opencode run`, with a provider of its config."""

import glob
import json
import os

from checks import EVERY, KEY, UNKNOWN, URL, check, run, within
from command import command, directory, package, printed


def opencode(model, prompt):
    home = directory()
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{URL}/v1", "apiKey": KEY},
        "models": {model: {"name": model}},
    }
    config = {
        "$schema": "https://opencode.ai/config.json",
        "provider": {"gateway": provider},
        "autoupdate": False,
        "share": "disabled",
        "permission": {"bash": "allow", "edit": "allow"},
    }
    with open(os.path.join(home, "opencode.json"), "w") as file:
        json.dump(config, file)
    # The program stands in a package of its own for each platform.
    (program, *_) = sorted(glob.glob(package("opencode-*-*/bin/opencode")))
    # It puts an argument that holds a space in quotes.
    args = ("run", "--model", f"gateway/{model}", "--format", "json", *prompt.split(" "))
    done = command(program, *args, cwd=home, OPENCODE_DISABLE_MODELS_FETCH="1")
    return done, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def text(done, events):
    printed(done)
    return "".join(event["part"].get("text", "") for event in events if event["type"] == "text")


@check(*EVERY)
def plain_turn(model):
    within(text(*opencode(model, "[[say It is done.]]")), "It is done.")


@check(*EVERY)
def tool_turn(model):
    order = r'[[call bash {"command":"echo\u0020$((40+2))","description":"Counts"}]]'
    within(text(*opencode(model, order)), "The tools said:", "42")


@check(UNKNOWN)
def unknown_model(model):
    done, events = opencode(model, "Hello")
    within(json.dumps(events) + done.stderr, model)


run()
