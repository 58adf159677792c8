// The `@anthropic-ai/sdk` package for Node: messages, token counts, models, and its exceptions.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { CLAUDE, EVERY, GEMINI, GPT_THINKS, KEY, LIMITED_KEY, PNG, THINKERS, UNKNOWN, URL } from "./checks.mjs";
import { SAME, TASK, check, counted, crowd, fresh, once, outcomes, raises, refused, run, slowBody } from "./checks.mjs";

const options = { baseURL: URL, apiKey: KEY, maxRetries: 0, timeout: 30_000 };
const client = new Anthropic(options);

const input_schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ name: "weather", description: "Its weather", input_schema }];
const TWO = '[[call weather {"city":"Oslo"}]] [[call weather {"city":"Rome"}]]';
const LONG = "word ".repeat(100);

const user = (content) => [{ role: "user", content }];
const asked = (model, content, more = {}) => ({ model, max_tokens: 1000, messages: user(content), ...more });
const ask = (model, content, more = {}, of = client) => of.messages.create(asked(model, content, more));

check("whole", EVERY, async (model) => {
  const answer = await ask(model, "[[say It is done.]]");
  assert.deepEqual(answer.content.map(({ type, text }) => [type, text]), [["text", "It is done."]]);
  assert.equal(answer.stop_reason, "end_turn");
  assert.ok(answer.usage.input_tokens > 0 && answer.usage.output_tokens > 0);
});

check("stream", EVERY, async (model) => {
  const stream = client.messages.stream(asked(model, "[[say One two three four five.]]"));
  let pieces = 0;
  stream.on("text", () => (pieces += 1));
  assert.equal(await stream.finalText(), "One two three four five.");
  assert.ok(pieces > 1);
});

check("parallel_tools", EVERY, async (model) => {
  const message = await client.messages.stream(asked(model, TWO, { tools })).finalMessage();
  const calls = message.content.filter((block) => block.type === "tool_use");
  assert.deepEqual(calls.map((call) => call.input.city), ["Oslo", "Rome"]);
  assert.equal(message.stop_reason, "tool_use");
  const results = calls.map(({ id }, n) => ({ type: "tool_result", tool_use_id: id, content: `is-${n}` }));
  const turns = [...user(TWO), { role: "assistant", content: message.content }, ...user(results.reverse())];
  const answer = await client.messages.create({ model, max_tokens: 1000, tools, messages: turns });
  assert.match(answer.content.at(-1).text, /is-1.*is-0|is-0.*is-1/);
});

check("structured_output", EVERY, async (model) => {
  const schema = { ...input_schema, additionalProperties: false };
  const answer = await ask(model, "Where?", { output_config: { format: { type: "json_schema", schema } } });
  assert.deepEqual(JSON.parse(answer.content.at(-1).text), { city: "text" });
});

check("vision", EVERY, async (model) => {
  const image = { type: "image", source: { type: "base64", media_type: "image/png", data: PNG } };
  const answer = await ask(model, [{ type: "text", text: "What is it?" }, image]);
  assert.match(answer.content.at(-1).text, /I see 1 \(image\/png of 73 bytes\)/);
});

check("errors", EVERY, async (model) => {
  const bad = await raises(Anthropic.BadRequestError, ask(model, "[[refuse 400 prompt is too long: 9 tokens]]"));
  assert.match(bad.message, /prompt is too long: 9 tokens/);
  assert.equal(bad.error.error.type, "invalid_request_error");
  const limited = await raises(Anthropic.RateLimitError, ask(model, once(7)));
  assert.equal(limited.headers.get("retry-after"), "7");
  await raises(Anthropic.InternalServerError, ask(model, "[[refuse 500 Oh no]]"));
});

// What comes with a call: OpenAI's chat shows nothing of what was thought, the proof behind Gemini's call is a block of its own.
const SHOWN = { [GPT_THINKS]: [], [CLAUDE]: ["thinking"], [GEMINI]: ["thinking", "redacted_thinking"] };

// What was thought goes back with the tool's result, as it came.
check("thinking", THINKERS, async (model) => {
  const more = { max_tokens: 4000, tools, thinking: { type: "enabled", budget_tokens: 1024 } };
  const order = '[[call weather {"city":"Oslo"}]]';
  const streamed = await client.messages.stream(asked(model, order, more)).finalMessage();
  for (const { content } of [streamed, await ask(model, order, more)]) {
    const [call] = content.filter((block) => block.type === "tool_use");
    const thoughts = content.filter((block) => block !== call);
    assert.deepEqual(thoughts.map((block) => block.type), SHOWN[model]);
    assert.ok(model === GPT_THINKS || thoughts[0].thinking);
    const result = { type: "tool_result", tool_use_id: call.id, content: "rain" };
    const messages = [...user(order), { role: "assistant", content }, ...user([result])];
    assert.match((await client.messages.create({ model, messages, ...more })).content.at(-1).text, /rain/);
  }
});

// What a provider says, and what its client hears.
const PROVIDER_SAYS = [
  [400, 400, "invalid_request_error", Anthropic.BadRequestError],
  [404, 404, "not_found_error", Anthropic.NotFoundError],
  [413, 413, "request_too_large", Anthropic.ContentTooLargeError],
  [422, 400, "invalid_request_error", Anthropic.BadRequestError],
  [429, 429, "rate_limit_error", Anthropic.RateLimitError],
  ...[503, 529].map((said) => [said, 529, "overloaded_error", Anthropic.OverloadedError]),
  ...[401, 402, 403, 408, 409, 500, 502, 504].map((said) => [said, 502, "api_error", Anthropic.InternalServerError]),
];

check("provider_errors", EVERY, async (model) => {
  for (const [said, status, type, kind] of PROVIDER_SAYS) {
    const error = await raises(kind, ask(model, `[[refuse ${said} That is ${said}]]`));
    assert.deepEqual([error.status, error.type], [status, type], `${said}: ${error}`);
    assert.match(error.message, new RegExp(`That is ${said}`));
  }
});

// Its own refusals by their kind.
const OWN = {
  forbidden: [403, "permission_error", Anthropic.PermissionDeniedError],
  conflict: [409, "invalid_request_error", Anthropic.ConflictError],
  too_large: [413, "request_too_large", Anthropic.ContentTooLargeError],
  over_budget: [402, "billing_error", Anthropic.PaymentRequiredError],
  cancelled: [499, "invalid_request_error", Anthropic.ClientClosedRequestError],
  deadline_exceeded: [504, "timeout_error", Anthropic.GatewayTimeoutError],
};

check("own_errors", [CLAUDE], async (model) => {
  let count;
  const call = (content, headers = {}, apiKey = KEY) => {
    count = counted();
    const patient = new Anthropic({ ...options, apiKey, maxRetries: 1, fetch: count.fetch });
    return patient.messages.create(asked(model, content), { headers });
  };
  for (const [kind, [tries, refusal]] of Object.entries(await refused(call))) {
    const [status, type, expected] = OWN[kind];
    const error = await raises(expected, refusal());
    assert.deepEqual([error.status, error.type, count.tries], [status, type, tries]);
    assert.equal(error.headers.get("farebox-error"), kind);
  }
});

check("rate_limited", [CLAUDE], async (model) => {
  const limited = new Anthropic({ ...options, apiKey: LIMITED_KEY });
  const twice = async () => {
    await ask(model, "Hello", {}, limited);
    await ask(model, "Hello", {}, limited);
  };
  const { type, headers } = await raises(Anthropic.RateLimitError, twice());
  assert.equal(type, "rate_limit_error");
  assert.ok(headers.get("retry-after") > 0 && headers.get("anthropic-ratelimit-requests-reset"));
  assert.equal(headers.get("anthropic-ratelimit-requests-remaining"), "0");
});

check("slow_body", [CLAUDE], async () => {
  const headers = { "content-type": "application/json" };
  await raises(Anthropic.RequestTimeoutError, client.post("/v1/messages", { body: slowBody(), headers }));
});

check("no_room", [CLAUDE], async (model) => {
  const served = async (text, maxRetries) =>
    (await ask(model, text, {}, new Anthropic({ ...options, maxRetries }))).content[0].text;
  const { type, headers } = await crowd(Anthropic.OverloadedError, served);
  assert.deepEqual([type, headers.get("retry-after")], ["overloaded_error", "1"]);
});

check("idempotency", [CLAUDE], async (model) => {
  const impatient = new Anthropic({ ...options, timeout: 1000, maxRetries: 8 });
  const task = fresh();
  const headers = { [TASK]: task, [SAME]: fresh() };
  const answer = await impatient.messages.create(asked(model, "[[wait 1500]] [[say Once.]]"), { headers });
  assert.equal(answer.content[0].text, "Once.");
  assert.deepEqual(await outcomes(task), ["ok"]);
});

check("unknown_model", [UNKNOWN], async (model) => {
  const error = await raises(Anthropic.NotFoundError, ask(model, "Hello"));
  assert.equal(error.error.error.type, "not_found_error");
});

check("wrong_key", [CLAUDE], async (model) => {
  const other = new Anthropic({ ...options, apiKey: "fb-wrong-0123456789abcdef0123456789abcdef" });
  await raises(Anthropic.AuthenticationError, ask(model, "Hello", {}, other));
});

check("retry", EVERY, async (model) => {
  const patient = new Anthropic({ ...options, maxRetries: 2 });
  assert.equal((await ask(model, `${once()} [[say At last.]]`, {}, patient)).content[0].text, "At last.");
});

check("stream_error", EVERY, async (model) => {
  const stream = client.messages.stream(asked(model, `[[cut 5]] [[say ${LONG}]]`));
  await assert.rejects(stream.finalMessage(), (error) => error instanceof Anthropic.APIError);
});

check("cancel", EVERY, async (model) => {
  const task = fresh();
  const order = `[[slow 300 60]] [[say ${LONG}]]`;
  const stream = client.messages.stream(asked(model, order), { headers: { [TASK]: task } });
  stream.once("text", () => stream.abort());
  await raises(Anthropic.APIUserAbortError, stream.finalMessage());
  assert.equal((await ask(model, "[[say Still here.]]")).content[0].text, "Still here.");
  assert.deepEqual(await outcomes(task), ["cancelled"]);
});

check("count_tokens", EVERY, async (model) => {
  const { input_tokens } = await client.messages.countTokens({ model, messages: user("Hello") });
  assert.ok(input_tokens > 0);
});

check("models", EVERY, async (model) => {
  const listed = [];
  for await (const row of client.models.list()) listed.push(row.id);
  assert.ok(listed.includes(model), listed);
  assert.equal((await client.models.retrieve(model)).id, model);
});

await run();
