"""The Agents SDK of OpenAI: responses by default, chat completions by choice."""

import os

os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"

from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
from openai import AsyncOpenAI
from pydantic import BaseModel

from checks import EVERY, KEY, URL, check, run, within


class Person(BaseModel):
    name: str
    age: int


@function_tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


def agents(model, **more):
    for kind in (OpenAIResponsesModel, OpenAIChatCompletionsModel):
        client = AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
        yield Agent(name="a", instructions="Be brief.", model=kind(model=model, openai_client=client), **more)


@check(*EVERY)
async def whole(model):
    for agent in agents(model):
        assert (await Runner.run(agent, "[[say It is done.]]")).final_output == "It is done."


@check(*EVERY)
async def streamed_tools(model):
    for agent in agents(model, tools=[weather], model_settings=ModelSettings(parallel_tool_calls=True)):
        prompt = '[[call weather {"city":"Oslo"}]] [[call weather {"city":"Rome"}]]'
        answer = Runner.run_streamed(agent, prompt)
        async for _ in answer.stream_events():
            pass
        within(answer.final_output, "rain in Oslo", "rain in Rome")


@check(*EVERY)
async def handoff(model):
    """One agent hands over to another; the history goes along."""
    for agent, other in zip(agents(model), agents(model)):
        other.name = "other"
        agent.handoffs = [other]
        answer = await Runner.run(agent, "[[call transfer_to_other {}]]")
        assert answer.last_agent.name == "other", answer


@check(*EVERY)
async def structured_output(model):
    for agent in agents(model, output_type=Person):
        assert (await Runner.run(agent, "Who?")).final_output == Person(name="text", age=1)


run()
