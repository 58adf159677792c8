// The `@anthropic-ai/sdk` package for Node: messages, token counts, models, and its exceptions.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { CLAUDE, EVERY, KEY, PNG, UNKNOWN, URL, check, once, raises, run } from "./checks.mjs";

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
  const stream = client.messages.stream(asked(model, `[[slow 300 60]] [[say ${LONG}]]`));
  stream.once("text", () => stream.abort());
  await raises(Anthropic.APIUserAbortError, stream.finalMessage());
  assert.equal((await ask(model, "[[say Still here.]]")).content[0].text, "Still here.");
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
