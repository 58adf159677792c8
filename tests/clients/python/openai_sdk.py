"""The `openai` package: chat completions, responses, embeddings, models, and its exceptions."""

import json

import openai
from openai import OpenAI
from pydantic import BaseModel

from checks import CLAUDE, EMBEDDINGS, EVERY, GEMINI, GPT, GPT_THINKS, KEY, LIMITED_KEY, PNG, THINKERS, UNKNOWN, URL
from checks import check, fresh, once, raises, run, within
from refusals import SAME, TASK, SlowBody, crowd, outcomes, refused, tries

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


def chat(model, text, of=client, **more):
    return of.chat.completions.create(model=model, messages=user(text), **more)


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


# What a provider says, and what its client hears.
PROVIDER_SAYS = {
    400: (400, openai.BadRequestError),
    404: (404, openai.NotFoundError),
    413: (413, openai.APIStatusError),
    422: (422, openai.UnprocessableEntityError),
    429: (429, openai.RateLimitError),
} | dict.fromkeys((401, 402, 403, 408, 409, 500, 502, 503, 504, 529), (502, openai.InternalServerError))


@check(*EVERY)
def provider_errors(model):
    for said, (status, kind) in PROVIDER_SAYS.items():
        error = raises(kind, lambda: chat(model, f"[[refuse {said} That is {said}]]"))
        assert error.status_code == status, (said, error.status_code, error.body)
        within(error.message, f"That is {said}")


# Its own refusals by their kind.
OWN = {
    "forbidden": (403, "forbidden", openai.PermissionDeniedError),
    "conflict": (409, "conflict", openai.ConflictError),
    "too_large": (413, "too_large", openai.APIStatusError),
    "over_budget": (429, "insufficient_quota", openai.RateLimitError),
    "cancelled": (499, "cancelled", openai.APIStatusError),
    "deadline_exceeded": (504, "deadline_exceeded", openai.InternalServerError),
}


@check(GPT)
def own_errors(model):
    def ask(text, headers=None, key=KEY):
        return chat(model, text, client.with_options(api_key=key, max_retries=1), extra_headers=headers)

    for kind, (times, call) in refused(ask).items():
        status, code, expected = OWN[kind]
        error = raises(expected, call)
        assert (error.status_code, error.code, tries(error)) == (status, code, times), (error.body, tries(error))
        assert error.response.headers["farebox-error"] == kind, error.response.headers


@check(CLAUDE)
def unsupported(model):
    """What that provider has no form for, and what farebox does not keep."""
    audio = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    asked = {"model": model, "messages": [{"role": "user", "content": [audio]}]}
    error = raises(openai.UnprocessableEntityError, lambda: client.chat.completions.create(**asked))
    assert error.code == "unsupported", error.body
    raises(openai.UnprocessableEntityError, lambda: client.responses.retrieve("resp_1"))


@check(GPT)
def slow_body(model):
    asked = {"content": SlowBody(), "cast_to": object, "options": {"headers": {"Content-Type": "application/json"}}}
    assert raises(openai.APIStatusError, lambda: client.post("/chat/completions", **asked)).status_code == 408


@check(GPT)
def rate_limited(model):
    """By a limit of its own: when to come again, and how it stands."""
    limited = client.with_options(api_key=LIMITED_KEY)

    def twice():
        chat(model, "Hello", limited)
        chat(model, "Hello", limited)

    error = raises(openai.RateLimitError, twice)
    said = error.response.headers
    assert error.code == "rate_limit_exceeded" and 0 < int(said["retry-after"]) <= 60, (error.body, said)
    assert (said["x-ratelimit-limit-requests"], said["x-ratelimit-remaining-requests"]) == ("1", "0"), said
    assert said["x-ratelimit-reset-requests"], said


@check(GPT)
def no_room(model):
    def ask(text, retries):
        return chat(model, text, client.with_options(max_retries=retries)).choices[0].message.content

    error = crowd(openai.InternalServerError, ask)
    assert (error.status_code, error.code) == (503, "unavailable"), error.body
    assert error.response.headers["retry-after"] == "1", error.response.headers


@check(GPT)
def idempotency(model):
    """By the keys that the SDK makes once it is told to: it asks again before there is an answer, and pays once."""
    impatient = client.with_options(timeout=1, max_retries=8)
    impatient._idempotency_header = SAME
    labels = {TASK: fresh()}
    answer = chat(model, "[[wait 1500]] [[say Once.]]", impatient, extra_headers=labels)
    assert answer.choices[0].message.content == "Once.", answer
    assert outcomes(labels[TASK]) == ["ok"]


@check(GPT)
def idempotent_error(model):
    """One that was kept is the answer to that key, so it is not asked for again; another key is another call."""
    order = f"{once()} [[say At last.]]"
    patient = client.with_options(max_retries=2)
    same = {SAME: fresh()}
    for _ in range(2):
        error = raises(openai.RateLimitError, lambda: chat(model, order, patient, extra_headers=same))
        assert tries(error) == 1, error.response.headers
    answer = chat(model, order, patient, extra_headers={SAME: fresh()})
    assert answer.choices[0].message.content == "At last.", answer


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
    labels = {TASK: fresh()}
    stream = chat(model, "[[slow 300 60]] [[say " + "word " * 100 + "]]", stream=True, extra_headers=labels)
    next(iter(stream))
    stream.close()
    assert chat(model, "[[say Still here.]]").choices[0].message.content == "Still here."
    assert outcomes(labels[TASK]) == ["cancelled"]


# Whether a provider shows what was thought in a chat, and whether it counts it.
THOUGHTS = {GPT_THINKS: (False, True), CLAUDE: (True, False), GEMINI: (True, True)}


@check(*THINKERS)
def reasoning(model):
    asked = {"model": model, "messages": user("[[say Yes.]]"), "reasoning_effort": "low"}
    whole = client.chat.completions.create(**asked)
    with client.chat.completions.stream(stream_options={"include_usage": True}, **asked) as stream:
        streamed = stream.get_final_completion()
    for answer in (whole, streamed):
        message, details = answer.choices[0].message, answer.usage.completion_tokens_details
        assert message.content == "Yes.", answer
        thoughts = (bool(getattr(message, "reasoning_content", None)), bool(details and details.reasoning_tokens))
        assert thoughts == THOUGHTS[model], answer


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


@check(*THINKERS)
def responses_reasoning(model):
    """What was thought goes back with the tool's result, as it came."""
    tools = [{"type": "function", "name": "weather", "parameters": WEATHER, "strict": True}]
    asked = {"model": model, "tools": tools, "store": False, "reasoning": {"effort": "low", "summary": "auto"}}
    question = {"role": "user", "content": '[[call weather {"city":"Oslo"}]]'}
    with client.responses.stream(input=[question], **asked) as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_response()
    (call,) = [item for item in answer.output if item.type == "function_call"]
    thought = answer.output[0]
    assert thought.type == "reasoning" and thought.summary[0].text, answer
    assert "response.reasoning_summary_text.delta" in kinds, kinds
    turns = [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in answer.output]
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    answer = client.responses.create(input=[question, *turns, output], **asked)
    within(answer.output_text, "The tools said:", "rain")
    assert [item.type for item in answer.output] == ["reasoning", "message"], answer
    counted = answer.usage.output_tokens_details.reasoning_tokens
    assert bool(counted) == THOUGHTS[model][1], answer


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
