"""A NATS client that knows nothing of farebox: nats-py, JSON, and the subjects of the documentation.

Usage: foreign.py NATS_URL MODEL
       foreign.py NATS_URL --nobody      on a server on which no farebox runs

Ends with 0 when everything was as documented, and prints one line for each thing it has seen.
"""

import asyncio
import json
import sys
import time
import uuid

import nats
from nats.errors import NoRespondersError

WITHIN = 20


def say(what):
    print(what, flush=True)


def chat(model, **options):
    body = {"model": model, "messages": [{"role": "user", "content": "Hello from Python"}]}
    return body | {"stream": options.pop("stream", False), "farebox": options}


async def whole(client, model):
    answer = await client.request("llm.request", json.dumps(chat(model)).encode(), timeout=WITHIN)
    body = json.loads(answer.data)
    assert body["object"] == "chat.completion", body
    assert "Hello from Python" in body["choices"][0]["message"]["content"], body
    facts = body["farebox"]
    assert facts["type"] == "final" and facts["outcome"] == "ok", facts
    assert isinstance(facts["cost_usd"], str) and float(facts["cost_usd"]) > 0, facts
    for name in ("latency_ms", "cached", "provider", "attempts", "warnings"):
        assert name in facts, name
    say("whole")
    return facts


async def streamed(client, model):
    inbox = client.new_inbox()
    arrived = await client.subscribe(inbox)
    await client.publish("llm.request", json.dumps(chat(model, stream=True)).encode(), reply=inbox)
    text, expected, finals = "", 0, []
    while not finals:
        message = await arrived.next_msg(timeout=WITHIN)
        body = json.loads(message.data)
        if body["farebox"]["type"] == "final":
            finals.append(body)
            continue
        assert body["object"] == "chat.completion.chunk", body
        assert body["farebox"]["seq"] == expected, (body["farebox"], expected)
        assert message.headers["Farebox-Seq"] == str(expected), message.headers
        expected += 1
        for choice in body["choices"]:
            text += choice["delta"].get("content") or ""
    await client.flush()
    try:
        message = await arrived.next_msg(timeout=0.2)
        raise AssertionError(f"something came after the final answer: {message.data}")
    except nats.errors.TimeoutError:
        pass
    final = finals[0]
    assert expected > 1 and final["farebox"]["chunks"] == expected, (expected, final)
    assert final["choices"][0]["message"]["content"] == text, (final, text)
    await arrived.unsubscribe()
    say(f"streamed in {expected} chunks")
    return final["farebox"]


async def facts_of(facts, events, calls):
    """A fact and an event for each call; after a failover they may come twice."""
    wanted = {call["call_id"]: call for call in calls}
    missing = set(wanted)
    while missing:
        message = await facts.next_msg(timeout=WITHIN)
        missing.discard(message.subject.removeprefix("llm.call."))
    left = dict(wanted)
    while left:
        message = await events.next_msg(timeout=WITHIN)
        event = json.loads(message.data)
        call = left.pop(event["refs"]["call_id"], None)
        if call is None:
            continue
        assert event["type"] == "llm.call" and event["project"] == "default", event
        assert event["meta"]["cost_usd"] == call["cost_usd"], (event, call)
        assert event["summary"] == f"{call['model']} - ${call['cost_usd']}", event
        assert event["refs"]["request_id"] == call["request_id"], event
    say(f"{len(wanted)} facts and events")


async def job(client, model):
    request_id = f"py-{uuid.uuid4().hex}"
    arrived = await client.subscribe(f"llm.response.{request_id}")
    await client.flush()
    body = json.dumps(chat(model, request_id=request_id)).encode()
    receipt = json.loads((await client.request("llm.job", body, timeout=WITHIN)).data)
    assert receipt == {"request_id": request_id, "stored": True, "duplicate": False}, receipt
    answer = await arrived.next_msg(timeout=WITHIN)
    assert json.loads(answer.data)["farebox"]["outcome"] == "ok", answer.data
    stored = await client.request(f"llm.result.{request_id}", b"", timeout=WITHIN)
    assert stored.data == answer.data, (stored.data, answer.data)
    say("job")


async def cancel(client, model):
    """A request that nobody would answer soon, stopped."""
    request_id = f"py-{uuid.uuid4().hex}"
    body = json.dumps(chat(f"{model}-slow", request_id=request_id)).encode()
    asking = asyncio.create_task(client.request("llm.request", body, timeout=WITHIN))
    until = time.monotonic() + WITHIN
    while True:
        receipt = json.loads((await client.request(f"llm.cancel.{request_id}", b"", timeout=WITHIN)).data)
        if receipt["cancelled"]:
            break
        assert time.monotonic() < until, receipt
    answer = json.loads((await asking).data)
    assert answer["error"]["type"] == "cancelled", answer
    say("cancelled")


async def nobody(client):
    began = time.monotonic()
    try:
        await client.request("llm.request", json.dumps(chat("any")).encode(), timeout=WITHIN)
        raise AssertionError("somebody answered")
    except NoRespondersError:
        assert time.monotonic() - began < WITHIN / 2
    say("nobody")


async def connected(url):
    """Who has to say whose a connection is may stand still for longer than the server waits: it comes again."""
    until = time.monotonic() + WITHIN
    while True:
        try:
            return await nats.connect(url, allow_reconnect=False)
        except (nats.errors.Error, OSError):
            assert time.monotonic() < until


async def main(url, model):
    client = await connected(url)
    if model == "--nobody":
        await nobody(client)
    else:
        facts, events = await client.subscribe("llm.call.*"), await client.subscribe("llm.event.*")
        await client.flush()
        calls = [await whole(client, model), await streamed(client, model)]
        await facts_of(facts, events, calls)
        await job(client, model)
        await cancel(client, model)
    await client.close()


asyncio.run(main(*sys.argv[1:]))
