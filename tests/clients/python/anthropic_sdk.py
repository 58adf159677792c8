"""The `anthropic` package: messages, token counts, models, and its exceptions."""

import anthropic
from anthropic import Anthropic
from pydantic import BaseModel

from checks import CLAUDE, EVERY, GPT, KEY, PNG, UNKNOWN, URL, check, once, raises, run, within

client = Anthropic(base_url=URL, api_key=KEY, max_retries=0, timeout=30)

WEATHER = {
    "name": "weather",
    "description": "Its weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TWO = '[[call weather {"city":"Oslo"}]] [[call weather {"city":"Rome"}]]'


class Person(BaseModel):
    name: str
    age: int
    tags: list[str]


def user(content):
    return [{"role": "user", "content": content}]


def ask(model, content, of=client, **more):
    return of.messages.create(model=model, max_tokens=1000, messages=user(content), **more)


@check(*EVERY)
def whole(model):
    answer = ask(model, "[[say It is done.]]", system="You are brief.")
    (block,) = answer.content
    assert (block.type, block.text, answer.stop_reason) == ("text", "It is done.", "end_turn"), answer
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0, answer
    assert answer.role == "assistant" and answer._request_id, answer


@check(*EVERY)
def stream(model):
    with client.messages.stream(
        model=model, max_tokens=1000, messages=user("[[say One two three four five.]]")
    ) as answer:
        pieces = list(answer.text_stream)
        message = answer.get_final_message()
    assert "".join(pieces) == "One two three four five." and len(pieces) > 1, pieces
    assert message.stop_reason == "end_turn" and message.usage.output_tokens > 0, message
    assert message.usage.input_tokens > 0, message


@check(*EVERY)
def stream_events(model):
    """Each block begins before it goes on, and the message ends."""
    kinds = [event.type for event in ask(model, "[[say One two three.]]", stream=True)]
    seen = list(dict.fromkeys(kind for kind in kinds if kind != "ping"))
    assert seen == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ], kinds


@check(*EVERY)
def tools(model):
    answer = ask(model, '[[call weather {"city":"Oslo"}]]', tools=[WEATHER])
    (call,) = [block for block in answer.content if block.type == "tool_use"]
    assert (call.name, call.input, answer.stop_reason) == ("weather", {"city": "Oslo"}, "tool_use"), answer
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain", "is_error": False}
    turns = [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    answer = client.messages.create(
        model=model, max_tokens=1000, messages=user("Weather?") + turns, tools=[WEATHER]
    )
    within(answer.content[-1].text, "The tools said:", "rain")


@check(*EVERY)
def parallel_tools(model):
    """Streamed; the results go back in the other order, one with an image."""
    with client.messages.stream(model=model, max_tokens=1000, messages=user(TWO), tools=[WEATHER]) as answer:
        message = answer.get_final_message()
    calls = {block.input["city"]: block.id for block in message.content if block.type == "tool_use"}
    assert list(calls) == ["Oslo", "Rome"] and len(set(calls.values())) == 2, message
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    results = [
        {"type": "tool_result", "tool_use_id": calls["Rome"], "content": [{"type": "text", "text": "ROME"}, image]},
        {"type": "tool_result", "tool_use_id": calls["Oslo"], "content": "OSLO"},
    ]
    turns = [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    answer = client.messages.create(model=model, max_tokens=1000, messages=user(TWO) + turns, tools=[WEATHER])
    within(answer.content[-1].text, "OSLO", "ROME", "I see 1 (image/png")


@check(*EVERY)
def forced_tool(model):
    for choice in ({"type": "any"}, {"type": "tool", "name": "weather"}):
        answer = ask(model, "Hello", tools=[WEATHER], tool_choice=choice)
        assert [b.input for b in answer.content if b.type == "tool_use"] == [{"city": "text"}], answer
    answer = ask(model, TWO, tools=[WEATHER], tool_choice={"type": "none"})
    assert answer.stop_reason == "end_turn", answer


@check(*EVERY)
def structured_output(model):
    answer = client.messages.parse(model=model, max_tokens=1000, messages=user("Who?"), output_format=Person)
    assert answer.parsed_output == Person(name="text", age=1, tags=["text"]), answer


@check(*EVERY)
def vision(model):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    answer = ask(model, [{"type": "text", "text": "What is it?"}, image])
    within(answer.content[-1].text, "What is it?", "I see 1 (image/png of 73 bytes)")


@check(CLAUDE)
def thinking(model):
    """What was thought goes back with the tools' results, as it came."""
    thinks = {"type": "enabled", "budget_tokens": 1024}
    for streamed in (False, True):
        asked = {"model": model, "max_tokens": 4000, "tools": [WEATHER], "thinking": thinks}
        prompt = user('[[call weather {"city":"Oslo"}]]')
        if streamed:
            with client.messages.stream(messages=prompt, **asked) as stream:
                answer = stream.get_final_message()
        else:
            answer = client.messages.create(messages=prompt, **asked)
        thought, call = answer.content
        assert thought.type == "thinking" and thought.thinking and thought.signature, answer
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
        turns = [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
        within(client.messages.create(messages=prompt + turns, **asked).content[-1].text, "rain")


@check(*EVERY)
def errors(model):
    error = raises(anthropic.BadRequestError, lambda: ask(model, "[[refuse 400 prompt is too long: 9 tokens]]"))
    within(error.message, "prompt is too long: 9 tokens")
    assert error.body["type"] == "error" and error.body["error"]["type"] == "invalid_request_error", error.body
    assert error.request_id, error.response.headers
    error = raises(anthropic.RateLimitError, lambda: ask(model, once(7)))
    assert error.response.headers["retry-after"] == "7", error.response.headers
    assert error.body["error"]["type"] == "rate_limit_error", error.body
    assert raises(anthropic.InternalServerError, lambda: ask(model, "[[refuse 500 Oh no]]")).status_code >= 500
    raises(anthropic.BadRequestError, lambda: client.messages.create(model=model, max_tokens=9, messages="no list"))


@check(CLAUDE)
def overloaded(model):
    error = raises(anthropic.OverloadedError, lambda: ask(model, "[[refuse 529 Overloaded]]"))
    assert error.body["error"]["type"] == "overloaded_error", error.body


@check(UNKNOWN)
def unknown_model(model):
    error = raises(anthropic.NotFoundError, lambda: ask(model, "Hello"))
    assert error.body["error"]["type"] == "not_found_error" and model in error.message, error.body


@check(CLAUDE)
def wrong_key(model):
    other = client.with_options(api_key="fb-wrong-0123456789abcdef0123456789abcdef")
    error = raises(anthropic.AuthenticationError, lambda: ask(model, "Hello", other))
    assert error.body["error"]["type"] == "authentication_error", error.body


@check(*EVERY)
def retry(model):
    answer = ask(model, f"{once()} [[say At last.]]", client.with_options(max_retries=2))
    assert answer.content[0].text == "At last.", answer


@check(*EVERY)
def stream_error(model):
    """A stream that broke does not end as if it were whole."""
    stream = ask(model, "[[cut 5]] [[say One two three four five six seven eight nine ten.]]", stream=True)
    try:
        kinds = [event.type for event in stream]
    except anthropic.APIStatusError as error:
        assert error.body["type"] == "error", error.body
    else:
        raise AssertionError(f"it ended well: {kinds}")


@check(*EVERY)
def cancel(model):
    stream = ask(model, "[[slow 300 60]] [[say " + "word " * 100 + "]]", stream=True)
    next(iter(stream))
    stream.close()
    assert ask(model, "[[say Still here.]]").content[0].text == "Still here."


@check(*EVERY)
def count_tokens(model):
    short = client.messages.count_tokens(model=model, messages=user("Hello"))
    long = client.messages.count_tokens(model=model, messages=user("Hello " * 500), tools=[WEATHER])
    assert 0 < short.input_tokens < long.input_tokens, (short, long)


@check(GPT)
def models(model):
    listed = {row.id for row in client.models.list(limit=1000)}
    assert set(EVERY) <= listed, listed
    row = client.models.retrieve(model)
    assert row.id == model and row.display_name and row.type == "model", row


@check(*EVERY)
def facts(model):
    said = client.messages.with_raw_response.create(model=model, max_tokens=99, messages=user("Hello")).headers
    assert said["farebox-model"] == model and float(said["farebox-cost-usd"]) > 0, said
    assert said["request-id"] and said["farebox-call-id"] and said["farebox-provider"], said


run()
