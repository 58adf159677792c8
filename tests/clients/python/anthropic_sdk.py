"""The `anthropic` package: messages, token counts, models, and its exceptions."""

import anthropic
from anthropic import Anthropic
from pydantic import BaseModel

from checks import CLAUDE, EVERY, GEMINI, GPT, GPT_THINKS, KEY, LIMITED_KEY, PNG, THINKERS, UNKNOWN, URL
from checks import check, fresh, once, raises, run, within
from refusals import SAME, TASK, SlowBody, crowd, outcomes, refused, tries

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


# What comes with a call: OpenAI's chat shows nothing of what was thought, the proof behind Gemini's call is a block of its own.
SHOWN = {GPT_THINKS: [], CLAUDE: ["thinking"], GEMINI: ["thinking", "redacted_thinking"]}


@check(*THINKERS)
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
        thoughts = [block for block in answer.content if block.type != "tool_use"]
        (call,) = [block for block in answer.content if block.type == "tool_use"]
        assert [thought.type for thought in thoughts] == SHOWN[model], answer
        assert not thoughts or thoughts[0].thinking, answer
        assert model != CLAUDE or thoughts[0].signature, answer
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


# What a provider says, and what its client hears.
PROVIDER_SAYS = {
    400: (400, "invalid_request_error", anthropic.BadRequestError),
    404: (404, "not_found_error", anthropic.NotFoundError),
    413: (413, "request_too_large", anthropic.RequestTooLargeError),
    422: (400, "invalid_request_error", anthropic.BadRequestError),
    429: (429, "rate_limit_error", anthropic.RateLimitError),
    503: (529, "overloaded_error", anthropic.OverloadedError),
    529: (529, "overloaded_error", anthropic.OverloadedError),
} | dict.fromkeys((401, 402, 403, 408, 409, 500, 502, 504), (502, "api_error", anthropic.InternalServerError))


@check(*EVERY)
def provider_errors(model):
    for said, (status, word, kind) in PROVIDER_SAYS.items():
        error = raises(kind, lambda: ask(model, f"[[refuse {said} That is {said}]]"))
        assert (error.status_code, error.body["error"]["type"]) == (status, word), (said, error.body)
        within(error.message, f"That is {said}")


# Its own refusals by their kind.
OWN = {
    "forbidden": (403, "permission_error", anthropic.PermissionDeniedError),
    "conflict": (409, "invalid_request_error", anthropic.ConflictError),
    "too_large": (413, "request_too_large", anthropic.RequestTooLargeError),
    "over_budget": (402, "billing_error", anthropic.PaymentRequiredError),
    "cancelled": (499, "invalid_request_error", anthropic.ClientClosedRequestError),
    "deadline_exceeded": (504, "timeout_error", anthropic.DeadlineExceededError),
}


@check(CLAUDE)
def own_errors(model):
    def call(text, headers=None, key=KEY):
        return ask(model, text, client.with_options(api_key=key, max_retries=1), extra_headers=headers)

    for kind, (times, refusal) in refused(call).items():
        status, word, expected = OWN[kind]
        error = raises(expected, refusal)
        found = (error.status_code, error.body["error"]["type"], tries(error))
        assert found == (status, word, times), (error.body, found)
        assert error.response.headers["farebox-error"] == kind, error.response.headers


@check(CLAUDE)
def slow_body(model):
    asked = {"content": SlowBody(), "cast_to": object, "options": {"headers": {"Content-Type": "application/json"}}}
    raises(anthropic.RequestTimeoutError, lambda: client.post("/v1/messages", **asked))


@check(CLAUDE)
def rate_limited(model):
    """By a limit of its own: when to come again, and how it stands."""
    limited = client.with_options(api_key=LIMITED_KEY)

    def twice():
        ask(model, "Hello", limited)
        ask(model, "Hello", limited)

    error = raises(anthropic.RateLimitError, twice)
    said = error.response.headers
    assert error.body["error"]["type"] == "rate_limit_error" and 0 < int(said["retry-after"]) <= 60, said
    limit, left = said["anthropic-ratelimit-requests-limit"], said["anthropic-ratelimit-requests-remaining"]
    assert (limit, left) == ("1", "0") and said["anthropic-ratelimit-requests-reset"], said


@check(CLAUDE)
def no_room(model):
    def served(text, retries):
        return ask(model, text, client.with_options(max_retries=retries)).content[0].text

    error = crowd(anthropic.OverloadedError, served)
    assert error.body["error"]["type"] == "overloaded_error", error.body
    assert error.response.headers["retry-after"] == "1", error.response.headers


@check(CLAUDE)
def idempotency(model):
    """By the keys that the SDK makes once it is told to: it asks again before there is an answer, and pays once."""
    impatient = client.with_options(timeout=1, max_retries=8)
    impatient._idempotency_header = SAME
    labels = {TASK: fresh()}
    answer = ask(model, "[[wait 1500]] [[say Once.]]", impatient, extra_headers=labels)
    assert answer.content[0].text == "Once.", answer
    assert outcomes(labels[TASK]) == ["ok"]


@check(CLAUDE)
def idempotent_error(model):
    """One that was kept is the answer to that key, so it is not asked for again; another key is another call."""
    order = f"{once()} [[say At last.]]"
    patient = client.with_options(max_retries=2)
    same = {SAME: fresh()}
    for _ in range(2):
        error = raises(anthropic.RateLimitError, lambda: ask(model, order, patient, extra_headers=same))
        assert tries(error) == 1, error.response.headers
    answer = ask(model, order, patient, extra_headers={SAME: fresh()})
    assert answer.content[0].text == "At last.", answer


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
    labels = {TASK: fresh()}
    stream = ask(model, "[[slow 300 60]] [[say " + "word " * 100 + "]]", stream=True, extra_headers=labels)
    next(iter(stream))
    stream.close()
    assert ask(model, "[[say Still here.]]").content[0].text == "Still here."
    assert outcomes(labels[TASK]) == ["cancelled"]


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
