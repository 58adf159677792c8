"""LiteLLM as a client: the OpenAI paths with and without `/v1`, and Anthropic's."""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from pydantic import BaseModel

from checks import EMBEDDINGS, EVERY, GPT, KEY, UNKNOWN, URL, check, once, raises, run, within

litellm.suppress_debug_info = True
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]


class Person(BaseModel):
    name: str
    age: int


def ways(model):
    yield {"model": f"openai/{model}", "api_base": f"{URL}/v1"}
    yield {"model": f"litellm_proxy/{model}", "api_base": URL}
    # It sends OpenAI's own models to OpenAI's paths, whatever stands before their name.
    if model != GPT:
        yield {"model": f"anthropic/{model}", "api_base": URL}


def ask(way, text, **more):
    messages = [{"role": "user", "content": text}]
    return litellm.completion(**way, messages=messages, api_key=KEY, max_retries=0, **more)


@check(*EVERY)
def whole(model):
    for way in ways(model):
        answer = ask(way, "[[say It is done.]]")
        assert answer.choices[0].message.content == "It is done.", answer
        assert answer.choices[0].finish_reason == "stop" and answer.usage.completion_tokens > 0, answer


@check(*EVERY)
def stream(model):
    for way in ways(model):
        chunks = list(ask(way, "[[say One two three four five.]]", stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == "One two three four five.", text


@check(*EVERY)
def tools(model):
    for way in ways(model):
        answer = ask(way, '[[call weather {"city":"Oslo"}]]', tools=TOOLS)
        (call,) = answer.choices[0].message.tool_calls
        within(call.function.arguments, "Oslo")
        result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
        turns = [{"role": "user", "content": "Weather?"}, answer.choices[0].message, result]
        answer = litellm.completion(**way, messages=turns, tools=TOOLS, api_key=KEY)
        within(answer.choices[0].message.content, "rain")


@check(*EVERY)
def structured_output(model):
    """Which it asks for where it knows that the model can, by the model's name."""
    for way in ways(model):
        if not litellm.supports_response_schema(way["model"]):
            continue
        answer = ask(way, "Who?", response_format=Person)
        assert Person.model_validate_json(answer.choices[0].message.content) == Person(name="text", age=1), answer


@check(*EVERY)
def errors(model):
    """Programs look for these words."""
    for way in ways(model):
        words = "prompt is too long" if "anthropic" in way["model"] else "This model's maximum context length is 8 tokens"
        error = raises(litellm.ContextWindowExceededError, lambda: ask(way, f"[[refuse 400 {words}]]"))
        within(error, words)
        raises(litellm.RateLimitError, lambda: ask(way, once(7)))


@check(UNKNOWN)
def unknown_model(model):
    for way in ways(model):
        raises(litellm.NotFoundError, lambda: ask(way, "Hello"))


@check(*EMBEDDINGS)
def embeddings(model):
    for way in list(ways(model))[:2]:
        answer = litellm.embedding(**way, input=["one", "two"], api_key=KEY)
        assert [len(row["embedding"]) for row in answer.data] == [8, 8], answer


run()
