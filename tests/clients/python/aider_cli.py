"""aider: it edits a file as the model says."""

import os
import subprocess

from checks import EVERY, KEY, URL, check, run, within
from command import command, directory, printed

EDIT = """[[say hello.txt
```
made by {model}
```
]]"""


def aider(model, prompt, *args):
    home = directory()
    subprocess.run(["git", "init", "-q"], cwd=home, check=True)
    options = "--yes-always --no-check-update --no-analytics --no-show-release-notes --no-show-model-warnings"
    flags = "--no-auto-commits --no-gitignore --edit-format whole --no-pretty --map-tokens 0 --no-detect-urls"
    done = command(
        *("aider", "--model", f"openai/{model}", "--weak-model", f"openai/{model}"),
        *("--openai-api-base", f"{URL}/v1", "--openai-api-key", KEY),
        *options.split(),
        *flags.split(),
        *args,
        *("--message", prompt, "hello.txt"),
        cwd=home,
    )
    return home, printed(done)


@check(*EVERY)
def edits_a_file(model):
    for stream in ("--stream", "--no-stream"):
        home, said = aider(model, EDIT.format(model=model), stream)
        with open(os.path.join(home, "hello.txt")) as file:
            assert file.read() == f"made by {model}\n", said


@check(*EVERY)
def rate_limited_and_refused(model):
    """Refusals are shown."""
    _, said = aider(model, "[[refuse 400 This is not allowed here]]")
    within(said, "This is not allowed here")


run()
