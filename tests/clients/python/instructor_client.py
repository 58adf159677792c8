"""instructor: structured answers by a forced tool, by a schema, and by JSON."""

import instructor
from anthropic import Anthropic
from openai import OpenAI
from pydantic import BaseModel, field_validator

from checks import EVERY, KEY, URL, check, run

MESSAGES = [{"role": "user", "content": "Who?"}]
EXPECTED = {"name": "text", "age": 1}


class Person(BaseModel):
    name: str
    age: int


class Adult(Person):
    """Which the first answer is not."""

    @field_validator("age")
    @classmethod
    def is_old_enough(cls, age):
        assert age >= 18, "[[call Adult {\"name\":\"text\",\"age\":42}]]"
        return age


def openai(mode):
    return instructor.from_openai(OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0), mode=mode)


def ask(client, model, of=Person, retries=0, **more):
    return client.chat.completions.create(
        model=model, messages=MESSAGES, response_model=of, max_retries=retries, **more
    )


@check(*EVERY)
def by_tool(model):
    assert ask(openai(instructor.Mode.TOOLS), model).model_dump() == EXPECTED


@check(*EVERY)
def by_schema(model):
    assert ask(openai(instructor.Mode.JSON_SCHEMA), model).model_dump() == EXPECTED


@check(*EVERY)
def by_anthropic_tool(model):
    client = instructor.from_anthropic(Anthropic(base_url=URL, api_key=KEY, max_retries=0))
    assert ask(client, model, max_tokens=1000).model_dump() == EXPECTED


@check(*EVERY)
def asks_again(model):
    """With what was wrong: the failed turn and a message of the tool."""
    answer = ask(openai(instructor.Mode.TOOLS), model, of=Adult, retries=2)
    assert answer.age == 42, answer


run()
