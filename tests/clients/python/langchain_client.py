"""LangChain's `langchain-openai` and `langchain-anthropic`."""

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from checks import EMBEDDINGS, EVERY, KEY, PNG, URL, check, once, run, within


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


class Person(BaseModel):
    name: str
    age: int


def openai(model, **more):
    return ChatOpenAI(model=model, base_url=f"{URL}/v1", api_key=KEY, max_retries=0, **more)


def anthropic(model, **more):
    return ChatAnthropic(model=model, base_url=URL, api_key=KEY, max_retries=0, **more)


def both(model, **more):
    return openai(model, **more), anthropic(model, **more)


@check(*EVERY)
def whole(model):
    for chat in (*both(model), openai(model, use_responses_api=True)):
        answer = chat.invoke("[[say It is done.]]")
        assert answer.text == "It is done.", answer
        assert answer.usage_metadata["output_tokens"] > 0, answer


@check(*EVERY)
def stream(model):
    for chat in (openai(model, stream_usage=True), anthropic(model)):
        chunks = list(chat.stream("[[say One two three four five.]]"))
        assert "".join(chunk.text for chunk in chunks) == "One two three four five.", chunks
        whole = sum(chunks[1:], chunks[0])
        assert whole.usage_metadata["output_tokens"] > 0, whole


@check(*EVERY)
def tools(model):
    for chat in both(model):
        bound = chat.bind_tools([weather])
        question = HumanMessage('[[call weather {"city":"Oslo"}]] [[call weather {"city":"Rome"}]]')
        answer = bound.invoke([question])
        assert [call["args"]["city"] for call in answer.tool_calls] == ["Oslo", "Rome"], answer
        results = [ToolMessage(weather.invoke(c["args"]), tool_call_id=c["id"]) for c in answer.tool_calls]
        within(bound.invoke([question, answer, *results]).text, "rain in Oslo", "rain in Rome")


@check(*EVERY)
def structured_output(model):
    for chat in both(model):
        assert chat.with_structured_output(Person).invoke("Who?") == Person(name="text", age=1)
    by_tool = openai(model).with_structured_output(Person, method="function_calling")
    assert by_tool.invoke("Who?") == Person(name="text", age=1)


@check(*EVERY)
def vision(model):
    for chat in both(model):
        image = {"type": "image", "base64": PNG, "mime_type": "image/png"}
        answer = chat.invoke([HumanMessage([{"type": "text", "text": "What is it?"}, image])])
        within(answer.text, "I see 1 (image/png of 73 bytes)")


@check(*EVERY)
def retry(model):
    patient = ChatOpenAI(model=model, base_url=f"{URL}/v1", api_key=KEY, max_retries=2)
    assert patient.invoke(f"{once()} [[say At last.]]").text == "At last."


@check(*EMBEDDINGS)
def embeddings(model):
    """Of tokens for models that its tokenizer knows, of texts for others."""
    for by_tokens in (False,):
        of = OpenAIEmbeddings(model=model, base_url=f"{URL}/v1", api_key=KEY, check_embedding_ctx_length=by_tokens)
        vectors = of.embed_documents(["one", "two"])
        assert len(vectors) == 2 and vectors[0] != vectors[1] and len(vectors[0]) == 8, vectors


run()
