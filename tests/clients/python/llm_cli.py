"""The `llm` command line, which is told of models by a file."""

import os

from checks import EVERY, KEY, UNKNOWN, URL, check, run, within
from command import command, directory, printed

MODELS = """
- model_id: gateway/{model}
  model_name: {model}
  api_base: {url}/v1
  api_key_name: gateway
  supports_tools: true
  supports_schema: true
  vision: true
"""


def llm(model, *args):
    home = directory()
    with open(os.path.join(home, "extra-openai-models.yaml"), "w") as file:
        file.write(MODELS.format(model=model, url=URL))
    return command("llm", "-m", f"gateway/{model}", "--key", KEY, *args, cwd=home, LLM_USER_PATH=home)


@check(*EVERY)
def whole_and_streamed(model):
    for more in (["--no-stream"], []):
        assert printed(llm(model, *more, "[[say One two three four five.]]")).strip() == "One two three four five."


@check(*EVERY)
def schema(model):
    within(printed(llm(model, "--schema", "name, age int", "Who?")), '"name":', '"age":')


@check(*EVERY)
def tools(model):
    tool = "def weather(city: str) -> str:\n    return 'rain in ' + city"
    said = printed(llm(model, "--functions", tool, '[[call weather {"city":"Oslo"}]]'))
    within(said, "The tools said:", "rain in Oslo")


@check(UNKNOWN)
def unknown_model(model):
    done = llm(model, "Hello")
    assert done.returncode != 0, done
    within(done.stderr, model)


run()
