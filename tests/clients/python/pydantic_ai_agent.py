"""pydantic-ai: agents over chat completions, responses and messages."""

import base64

from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.output import NativeOutput
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from checks import CLAUDE, EVERY, KEY, PNG, URL, check, run, within


class Person(BaseModel):
    name: str
    age: int


def models(name):
    openai = OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY)
    return (
        OpenAIChatModel(name, provider=openai),
        OpenAIResponsesModel(name, provider=openai),
        AnthropicModel(name, provider=AnthropicProvider(base_url=URL, api_key=KEY)),
    )


@check(*EVERY)
def whole(name):
    for model in models(name):
        answer = Agent(model).run_sync("[[say It is done.]]")
        assert answer.output == "It is done.", answer


@check(*EVERY)
async def stream(name):
    for model in models(name):
        async with Agent(model).run_stream("[[say One two three four five.]]") as answer:
            pieces = [piece async for piece in answer.stream_text(delta=True, debounce_by=None)]
        assert "".join(pieces) == "One two three four five.", pieces


@check(*EVERY)
def tools(name):
    for model in models(name):
        agent = Agent(model)

        @agent.tool_plain
        def weather(city: str) -> str:
            return f"rain in {city}"

        prompt = '[[call weather {"city":"Oslo"}]] [[call weather {"city":"Rome"}]]'
        within(agent.run_sync(prompt).output, "rain in Oslo", "rain in Rome")


@check(*EVERY)
def output_by_tool(name):
    for model in models(name):
        assert Agent(model, output_type=Person).run_sync("Who?").output == Person(name="text", age=1)


@check(*EVERY)
def output_by_schema(name):
    """Which it asks Anthropic's own models for, and no others, over messages."""
    for model in models(name)[: 3 if name == CLAUDE else 2]:
        agent = Agent(model, output_type=NativeOutput(Person))
        assert agent.run_sync("Who?").output == Person(name="text", age=1)


@check(*EVERY)
def vision(name):
    for model in models(name):
        image = BinaryContent(base64.b64decode(PNG), media_type="image/png")
        within(Agent(model).run_sync(["What is it?", image]).output, "I see 1 (image/png of 73 bytes)")


run()
