// The `openai` package for Node: chat completions, responses, embeddings, models, and its exceptions.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { CLAUDE, EMBEDDINGS, EVERY, GEMINI, GPT, GPT_THINKS, KEY, LIMITED_KEY, PNG, THINKERS, UNKNOWN, URL } from "./checks.mjs";
import { SAME, TASK, check, counted, crowd, fresh, once, outcomes, raises, refused, run, slowBody } from "./checks.mjs";

const options = { baseURL: `${URL}/v1`, apiKey: KEY, maxRetries: 0, timeout: 30_000 };
const client = new OpenAI(options);

const schema = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "weather", description: "Its weather", parameters: schema } }];
const TWO = '[[call weather {"city":"Oslo"}]] [[call weather {"city":"Rome"}]]';
const LONG = "word ".repeat(100);

const user = (content) => [{ role: "user", content }];
const chat = (model, content, more = {}, of = client) =>
  of.chat.completions.create({ model, messages: user(content), ...more });
const told = (answer) => answer.choices[0].message.content;

check("whole", EVERY, async (model) => {
  const answer = await chat(model, "[[say It is done.]]");
  assert.equal(told(answer), "It is done.");
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.ok(answer.usage.prompt_tokens > 0 && answer.usage.completion_tokens > 0);
  assert.ok(answer._request_id);
});

check("stream", EVERY, async (model) => {
  const more = { stream: true, stream_options: { include_usage: true } };
  const chunks = [];
  for await (const chunk of await chat(model, "[[say One two three four five.]]", more)) chunks.push(chunk);
  assert.equal(chunks.map((c) => c.choices[0]?.delta.content ?? "").join(""), "One two three four five.");
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.ok(chunks.at(-1).usage.completion_tokens > 0);
  assert.deepEqual(chunks.map((c) => c.choices[0]?.finish_reason).filter(Boolean), ["stop"]);
});

check("tools", EVERY, async (model) => {
  const runner = client.chat.completions.runTools({
    model,
    messages: user('[[call weather {"city":"Oslo"}]]'),
    tools: [{ type: "function", function: { name: "weather", parameters: schema, parse: JSON.parse, function: ({ city }) => `rain in ${city}` } }],
  });
  assert.match(await runner.finalContent(), /The tools said:.*rain in Oslo/);
});

check("parallel_tools", EVERY, async (model) => {
  const stream = client.chat.completions.stream({ model, messages: user(TWO), tools });
  const { message } = (await stream.finalChatCompletion()).choices[0];
  const cities = message.tool_calls.map((call) => JSON.parse(call.function.arguments).city);
  assert.deepEqual(cities, ["Oslo", "Rome"]);
  const results = message.tool_calls.map((call, n) => ({ role: "tool", tool_call_id: call.id, content: `is-${n}` }));
  const turn = { role: "assistant", tool_calls: message.tool_calls.map(({ id, type, function: f }) => ({ id, type, function: { name: f.name, arguments: f.arguments } })) };
  const messages = [...user(TWO), turn, ...results.reverse()];
  const answer = await client.chat.completions.create({ model, messages, tools });
  assert.match(told(answer), /is-0/);
  assert.match(told(answer), /is-1/);
});

check("structured_output", EVERY, async (model) => {
  const format = { type: "json_schema", json_schema: { name: "place", schema, strict: true } };
  const answer = await client.chat.completions.parse({ model, messages: user("Where?"), response_format: format });
  assert.deepEqual(JSON.parse(told(answer)), { city: "text" });
});

check("vision", EVERY, async (model) => {
  const image = { type: "image_url", image_url: { url: `data:image/png;base64,${PNG}` } };
  const answer = await chat(model, [{ type: "text", text: "What is it?" }, image]);
  assert.match(told(answer), /I see 1 \(image\/png of 73 bytes\)/);
});

check("errors", EVERY, async (model) => {
  const bad = await raises(OpenAI.BadRequestError, chat(model, "[[refuse 400 maximum context length is 8 tokens]]"));
  assert.match(bad.message, /maximum context length is 8 tokens/);
  const limited = await raises(OpenAI.RateLimitError, chat(model, once(7)));
  assert.equal(limited.headers.get("retry-after"), "7");
  await raises(OpenAI.InternalServerError, chat(model, "[[refuse 500 Oh no]]"));
});

// What a provider says, and what its client hears.
const PROVIDER_SAYS = [
  [400, 400, OpenAI.BadRequestError],
  [404, 404, OpenAI.NotFoundError],
  [413, 413, OpenAI.APIError],
  [422, 422, OpenAI.UnprocessableEntityError],
  [429, 429, OpenAI.RateLimitError],
  ...[401, 402, 403, 408, 409, 500, 502, 503, 504, 529].map((said) => [said, 502, OpenAI.InternalServerError]),
];

check("provider_errors", EVERY, async (model) => {
  for (const [said, status, kind] of PROVIDER_SAYS) {
    const error = await raises(kind, chat(model, `[[refuse ${said} That is ${said}]]`));
    assert.equal(error.status, status, `${said}: ${error}`);
    assert.match(error.message, new RegExp(`That is ${said}`));
  }
});

// Its own refusals by their kind.
const OWN = {
  forbidden: [403, "forbidden", OpenAI.PermissionDeniedError],
  conflict: [409, "conflict", OpenAI.ConflictError],
  too_large: [413, "too_large", OpenAI.APIError],
  over_budget: [429, "insufficient_quota", OpenAI.RateLimitError],
  cancelled: [499, "cancelled", OpenAI.APIError],
  deadline_exceeded: [504, "deadline_exceeded", OpenAI.InternalServerError],
};

check("own_errors", [GPT], async (model) => {
  let count;
  const ask = (content, headers = {}, apiKey = KEY) => {
    count = counted();
    const patient = new OpenAI({ ...options, apiKey, maxRetries: 1, fetch: count.fetch });
    return patient.chat.completions.create({ model, messages: user(content) }, { headers });
  };
  for (const [kind, [tries, call]] of Object.entries(await refused(ask))) {
    const [status, code, expected] = OWN[kind];
    const error = await raises(expected, call());
    assert.deepEqual([error.status, error.code, count.tries], [status, code, tries]);
    assert.equal(error.headers.get("farebox-error"), kind);
  }
});

check("unsupported", [CLAUDE], async (model) => {
  const audio = { type: "input_audio", input_audio: { data: "AAAA", format: "wav" } };
  const error = await raises(OpenAI.UnprocessableEntityError, chat(model, [audio]));
  assert.equal(error.code, "unsupported");
});

check("rate_limited", [GPT], async (model) => {
  const limited = new OpenAI({ ...options, apiKey: LIMITED_KEY });
  const twice = async () => {
    await chat(model, "Hello", {}, limited);
    await chat(model, "Hello", {}, limited);
  };
  const { code, headers } = await raises(OpenAI.RateLimitError, twice());
  assert.equal(code, "rate_limit_exceeded");
  assert.ok(headers.get("retry-after") > 0 && headers.get("x-ratelimit-reset-requests"));
  assert.equal(headers.get("x-ratelimit-remaining-requests"), "0");
});

check("slow_body", [GPT], async () => {
  const headers = { "content-type": "application/json" };
  const error = await raises(OpenAI.APIError, client.post("/chat/completions", { body: slowBody(), headers }));
  assert.equal(error.status, 408);
});

check("no_room", [GPT], async (model) => {
  const served = async (text, maxRetries) => told(await chat(model, text, {}, new OpenAI({ ...options, maxRetries })));
  const { status, code, headers } = await crowd(OpenAI.InternalServerError, served);
  assert.deepEqual([status, code, headers.get("retry-after")], [503, "unavailable", "1"]);
});

// By the keys that the SDK makes once it is told to.
check("idempotency", [GPT], async (model) => {
  const impatient = new OpenAI({ ...options, timeout: 1000, maxRetries: 8 });
  impatient.idempotencyHeader = SAME;
  const task = fresh();
  const messages = user("[[wait 1500]] [[say Once.]]");
  const answer = await impatient.chat.completions.create({ model, messages }, { headers: { [TASK]: task } });
  assert.equal(told(answer), "Once.");
  assert.deepEqual(await outcomes(task), ["ok"]);
});

check("unknown_model", [UNKNOWN], async (model) => {
  assert.equal((await raises(OpenAI.NotFoundError, chat(model, "Hello"))).code, "model_not_found");
});

check("wrong_key", [GPT], async (model) => {
  const other = new OpenAI({ ...options, apiKey: "fb-wrong-0123456789abcdef0123456789abcdef" });
  await raises(OpenAI.AuthenticationError, chat(model, "Hello", {}, other));
});

check("retry", EVERY, async (model) => {
  const patient = new OpenAI({ ...options, maxRetries: 2 });
  assert.equal(told(await chat(model, `${once()} [[say At last.]]`, {}, patient)), "At last.");
});

check("stream_error", EVERY, async (model) => {
  const stream = await chat(model, `[[cut 4]] [[say ${LONG}]]`, { stream: true });
  const all = async () => {
    for await (const _ of stream);
  };
  await assert.rejects(all(), (error) => error instanceof OpenAI.APIError);
});

check("cancel", EVERY, async (model) => {
  const [stop, task] = [new AbortController(), fresh()];
  const order = `[[slow 300 60]] [[say ${LONG}]]`;
  const stream = await client.chat.completions.create(
    { model, messages: user(order), stream: true },
    { signal: stop.signal, headers: { [TASK]: task } },
  );
  for await (const _ of stream) stop.abort();
  assert.equal(told(await chat(model, "[[say Still here.]]")), "Still here.");
  assert.deepEqual(await outcomes(task), ["cancelled"]);
});

// Whether a provider shows what was thought in a chat, and whether it counts it.
const THOUGHTS = { [GPT_THINKS]: [false, true], [CLAUDE]: [true, false], [GEMINI]: [true, true] };

check("reasoning", THINKERS, async (model) => {
  const asked = { model, messages: user("[[say Yes.]]"), reasoning_effort: "low" };
  const whole = await client.chat.completions.create(asked);
  const stream = client.chat.completions.stream({ ...asked, stream_options: { include_usage: true } });
  let thought = "";
  stream.on("chunk", (chunk) => (thought += chunk.choices[0]?.delta.reasoning_content ?? ""));
  const streamed = await stream.finalChatCompletion();
  for (const [answer, shown] of [[whole, whole.choices[0].message.reasoning_content], [streamed, thought]]) {
    assert.equal(told(answer), "Yes.");
    const counted = answer.usage.completion_tokens_details?.reasoning_tokens;
    assert.deepEqual([Boolean(shown), Boolean(counted)], THOUGHTS[model]);
  }
});

check("responses", EVERY, async (model) => {
  const asked = { model, store: false, tools: [{ type: "function", name: "weather", parameters: schema, strict: true }] };
  const whole = await client.responses.create({ ...asked, input: "[[say It is done.]]" });
  assert.equal(whole.output_text, "It is done.");
  const stream = client.responses.stream({ ...asked, input: user(TWO) });
  const answer = await stream.finalResponse();
  const calls = answer.output.filter((item) => item.type === "function_call");
  assert.deepEqual(calls.map((call) => JSON.parse(call.arguments).city), ["Oslo", "Rome"]);
  const outputs = calls.map(({ call_id }, n) => ({ type: "function_call_output", call_id, output: `is-${n}` }));
  const turns = answer.output.map(({ parsed_arguments, ...item }) => item);
  const last = await client.responses.create({ ...asked, input: [...user(TWO), ...turns, ...outputs] });
  assert.match(last.output_text, /is-0.*is-1/);
});

// What was thought goes back with the tool's result, as it came.
check("responses_reasoning", THINKERS, async (model) => {
  const tools = [{ type: "function", name: "weather", parameters: schema, strict: true }];
  const asked = { model, store: false, tools, reasoning: { effort: "low", summary: "auto" } };
  const question = user('[[call weather {"city":"Oslo"}]]');
  const { output } = await client.responses.stream({ ...asked, input: question }).finalResponse();
  const call = output.find((item) => item.type === "function_call");
  assert.equal(output[0].type, "reasoning");
  assert.ok(output[0].summary[0].text);
  const turns = output.map(({ parsed_arguments, ...item }) => item);
  const result = { type: "function_call_output", call_id: call.call_id, output: "rain" };
  const last = await client.responses.create({ ...asked, input: [...question, ...turns, result] });
  assert.match(last.output_text, /rain/);
  assert.deepEqual(last.output.map((item) => item.type), ["reasoning", "message"]);
});

check("embeddings", EMBEDDINGS, async (model) => {
  const packed = await client.embeddings.create({ model, input: ["one", "two"] });
  assert.deepEqual(packed.data.map((row) => row.embedding.length), [8, 8]);
  const plain = await client.embeddings.create({ model, input: "one", encoding_format: "float" });
  assert.deepEqual(plain.data[0].embedding, [...packed.data[0].embedding]);
});

check("models", [GPT, CLAUDE], async (model) => {
  const listed = [];
  for await (const row of client.models.list()) listed.push(row.id);
  assert.ok(listed.includes(model), listed);
  assert.equal((await client.models.retrieve(model)).id, model);
});

await run();
