"""The `openai` package: chat completions, responses, embeddings, models, and its exceptions."""

import json

import openai
from openai import OpenAI
from pydantic import BaseModel

from checks import EMBEDDINGS, EVERY, GPT, CLAUDE, KEY, PNG, UNKNOWN, URL, check, once, raises, run, within

client = OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0, timeout=30)

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Its weather", "parameters": WEATHER}}]
TWO = '[[call weather {"city":"Oslo"}]] [[call weather {"city":"Rome"}]]'


class Person(BaseModel):
    name: str
    age: int
    tags: list[str]


def user(text):
    return [{"role": "user", "content": text}]


def chat(model, text, **more):
    return client.chat.completions.create(model=model, messages=user(text), **more)


@check(*EVERY)
def whole(model):
    answer = chat(model, "[[say It is done.]]")
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("It is done.", "stop"), answer
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0, answer
    assert answer.object == "chat.completion" and answer._request_id, answer


@check(*EVERY)
def stream(model):
    chunks = list(chat(model, "[[say One two three four five.]]", stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "One two three four five.", chunks
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"], chunks
    assert all(c.usage is None for c in chunks), "usage that nobody asked for"
    assert len(chunks) > 2, "not streamed"


@check(*EVERY)
def stream_with_usage(model):
    chunks = list(chat(model, "[[say Hello.]]", stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0, chunks[-1]
    assert all(c.usage is None for c in chunks[:-1]), chunks


@check(*EVERY)
def tools(model):
    answer = chat(model, '[[call weather {"city":"Oslo"}]]', tools=TOOLS)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls", answer
    (call,) = choice.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Oslo"}), call
    results = [choice.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    answer = client.chat.completions.create(model=model, messages=user("Weather?") + results, tools=TOOLS)
    within(answer.choices[0].message.content, "The tools said:", "rain")


@check(*EVERY)
def parallel_tools(model):
    """Streamed; the results go back in the other order."""
    with client.chat.completions.stream(model=model, messages=user(TWO), tools=TOOLS) as answer:
        message = answer.get_final_completion().choices[0].message
    calls = {json.loads(c.function.arguments)["city"]: c.id for c in message.tool_calls}
    assert list(calls) == ["Oslo", "Rome"] and len(set(calls.values())) == 2, message
    results = [{"role": "tool", "tool_call_id": calls[city], "content": city.upper()} for city in ("Rome", "Oslo")]
    turn = {"role": "assistant", "tool_calls": [c.model_dump(include={"id", "type", "function"}) for c in message.tool_calls]}
    for call in turn["tool_calls"]:
        call["function"].pop("parsed_arguments", None)
    answer = client.chat.completions.create(model=model, messages=user(TWO) + [turn] + results, tools=TOOLS)
    within(answer.choices[0].message.content, "OSLO", "ROME")


@check(*EVERY)
def forced_tool(model):
    named = {"type": "function", "function": {"name": "weather"}}
    for choice in (named, "required"):
        (call,) = chat(model, "Hello", tools=TOOLS, tool_choice=choice).choices[0].message.tool_calls
        assert json.loads(call.function.arguments) == {"city": "text"}, call
    answer = chat(model, '[[call weather {"city":"Oslo"}]]', tools=TOOLS, tool_choice="none")
    assert not answer.choices[0].message.tool_calls, answer


@check(*EVERY)
def structured_output(model):
    answer = client.chat.completions.parse(model=model, messages=user("Who?"), response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="text", age=1, tags=["text"]), answer


@check(*EVERY)
def vision(model):
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}]
    )
    within(answer.choices[0].message.content, "What is it?", "I see 1 (image/png of 73 bytes)")


@check(*EVERY)
def errors(model):
    error = raises(openai.BadRequestError, lambda: chat(model, "[[refuse 400 maximum context length is 8 tokens]]"))
    within(error.message, "maximum context length is 8 tokens")
    error = raises(openai.RateLimitError, lambda: chat(model, once(7)))
    assert error.response.headers["retry-after"] == "7", error.response.headers
    assert raises(openai.InternalServerError, lambda: chat(model, "[[refuse 500 Oh no]]")).status_code >= 500
    error = raises(openai.BadRequestError, lambda: client.chat.completions.create(model=model, messages="no list"))
    assert error.type == "invalid_request_error", error.body


@check(UNKNOWN)
def unknown_model(model):
    error = raises(openai.NotFoundError, lambda: chat(model, "Hello"))
    assert error.code == "model_not_found" and model in error.message, error.body
    raises(openai.NotFoundError, lambda: client.models.retrieve(model))


@check(GPT)
def wrong_key(model):
    other = client.with_options(api_key="fb-wrong-0123456789abcdef0123456789abcdef")
    message = user("Hello")
    error = raises(openai.AuthenticationError, lambda: other.chat.completions.create(model=model, messages=message))
    assert error.code == "invalid_api_key", error.body


@check(*EVERY)
def retry(model):
    """Of its own accord, when it was told to."""
    patient = client.with_options(max_retries=2)
    answer = patient.chat.completions.create(model=model, messages=user(f"{once()} [[say At last.]]"))
    assert answer.choices[0].message.content == "At last.", answer


@check(*EVERY)
def stream_error(model):
    """A stream that broke does not end as if it were whole."""
    stream = chat(model, "[[cut 4]] [[say One two three four five six seven eight nine ten.]]", stream=True)
    error = raises(openai.APIError, lambda: list(stream))
    assert error.message, error


@check(*EVERY)
def cancel(model):
    stream = chat(model, "[[slow 300 60]] [[say " + "word " * 100 + "]]", stream=True)
    next(iter(stream))
    stream.close()
    assert chat(model, "[[say Still here.]]").choices[0].message.content == "Still here."


@check(*EVERY)
def responses(model):
    answer = client.responses.create(model=model, input="[[say It is done.]]", store=False)
    assert (answer.output_text, answer.status) == ("It is done.", "completed"), answer
    assert answer.usage.output_tokens > 0, answer


@check(*EVERY)
def responses_stream(model):
    with client.responses.stream(model=model, input="[[say One two three four.]]", store=False) as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_response()
    assert answer.output_text == "One two three four.", answer
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds
    assert kinds.count("response.output_text.delta") > 1, kinds


@check(*EVERY)
def responses_tools(model):
    tools = [{"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}]
    question = {"role": "user", "content": TWO}
    answer = client.responses.create(model=model, input=[question], tools=tools, store=False)
    calls = [item for item in answer.output if item.type == "function_call"]
    assert [json.loads(call.arguments)["city"] for call in calls] == ["Oslo", "Rome"], answer
    outputs = [
        {"type": "function_call_output", "call_id": c.call_id, "output": json.loads(c.arguments)["city"].upper()}
        for c in calls
    ]
    turns = [question] + [item.model_dump(exclude_none=True) for item in answer.output] + outputs
    answer = client.responses.create(model=model, input=turns, tools=tools, store=False)
    within(answer.output_text, "OSLO", "ROME")


@check(*EVERY)
def responses_structured_output(model):
    answer = client.responses.parse(model=model, input="Who?", text_format=Person, store=False)
    assert answer.output_parsed == Person(name="text", age=1, tags=["text"]), answer


@check(GPT)
def responses_stored(model):
    """Where the provider keeps answers."""
    first = client.responses.create(model=model, input="Hello")
    second = client.responses.create(model=model, input="And?", previous_response_id=first.id)
    within(second.output_text, f"This follows {first.id}")


@check(*EMBEDDINGS)
def embeddings(model):
    """Which it asks for in base64, unless told otherwise."""
    answer = client.embeddings.create(model=model, input=["one", "two"])
    assert [len(row.embedding) for row in answer.data] == [8, 8], answer
    assert answer.data[0].embedding != answer.data[1].embedding, answer
    # Gemini says nothing of what an embedding took: farebox has counted.
    assert answer.usage.prompt_tokens > 0, answer
    numbers = client.embeddings.create(model=model, input="one", encoding_format="float")
    assert numbers.data[0].embedding == answer.data[0].embedding, (numbers, answer)


@check(GPT)
def models(model):
    listed = {row.id for row in client.models.list()}
    assert {*EVERY, *EMBEDDINGS} <= listed, listed
    assert client.models.retrieve(model).id == model


@check(GPT, CLAUDE)
def facts(model):
    answer = client.chat.completions.with_raw_response.create(
        model=model, messages=user("Hello"), extra_headers={"farebox-task-id": "t-1"}
    )
    said = answer.headers
    assert said["farebox-model"] == model and said["farebox-attempts"] == "1", said
    assert said["farebox-request-id"] and float(said["farebox-cost-usd"]) > 0, said
    assert said["farebox-cached"] == "false" and float(said["farebox-overhead-ms"]) >= 0, said


run()
