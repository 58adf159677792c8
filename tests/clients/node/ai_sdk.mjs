// The AI SDK of Vercel, with `@ai-sdk/openai-compatible` and `@ai-sdk/anthropic`.

import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, embedMany, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { CLAUDE, EMBEDDINGS, EVERY, KEY, PNG, UNKNOWN, URL, check, once, run } from "./checks.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;
const options = { name: "gateway", baseURL: `${URL}/v1`, apiKey: KEY };
const compatible = createOpenAICompatible({ ...options, includeUsage: true, supportsStructuredOutputs: true });
const anthropic = createAnthropic({ baseURL: `${URL}/v1`, apiKey: KEY });
const both = (name) => [compatible(name), anthropic(name)];

const weather = tool({
  description: "Its weather",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `rain in ${city}`,
});
const person = z.object({ name: z.string(), age: z.number() });

check("whole", EVERY, async (name) => {
  for (const model of both(name)) {
    const { text, usage, finishReason } = await generateText({ model, prompt: "[[say It is done.]]", maxRetries: 0 });
    assert.equal(text, "It is done.");
    assert.equal(finishReason, "stop");
    assert.ok(usage.inputTokens > 0 && usage.outputTokens > 0);
  }
});

check("stream", EVERY, async (name) => {
  for (const model of both(name)) {
    const answer = streamText({ model, prompt: "[[say One two three four five.]]", maxRetries: 0 });
    const pieces = [];
    for await (const piece of answer.textStream) pieces.push(piece);
    assert.equal(pieces.join(""), "One two three four five.");
    assert.ok((await answer.usage).outputTokens > 0);
  }
});

check("streamed_tools", EVERY, async (name) => {
  for (const model of both(name)) {
    const prompt = '[[call weather {"city":"Oslo"}]] [[call weather {"city":"Rome"}]]';
    const answer = streamText({ model, prompt, tools: { weather }, stopWhen: stepCountIs(3), maxRetries: 0 });
    assert.match(await answer.text, /rain in Oslo.*rain in Rome/);
  }
});

check("structured_output", EVERY, async (name) => {
  for (const model of both(name)) {
    const output = Output.object({ schema: person });
    const answer = await generateText({ model, prompt: "Who?", output, maxRetries: 0 });
    assert.deepEqual(answer.output, { name: "text", age: 1.5 });
  }
});

check("vision", EVERY, async (name) => {
  for (const model of both(name)) {
    const content = [{ type: "text", text: "What is it?" }, { type: "image", image: PNG, mediaType: "image/png" }];
    const { text } = await generateText({ model, messages: [{ role: "user", content }], maxRetries: 0 });
    assert.match(text, /I see 1 \(image\/png of 73 bytes\)/);
  }
});

check("thinking", [CLAUDE], async (name) => {
  const providerOptions = { anthropic: { thinking: { type: "enabled", budgetTokens: 1024 } } };
  const answer = await generateText({ model: anthropic(name), prompt: "[[say Yes.]]", providerOptions, maxRetries: 0 });
  assert.equal(answer.text, "Yes.");
  assert.ok(answer.reasoningText.length > 0);
});

check("retry", EVERY, async (name) => {
  for (const model of both(name)) {
    const { text } = await generateText({ model, prompt: `${once()} [[say At last.]]`, maxRetries: 2 });
    assert.equal(text, "At last.");
  }
});

check("unknown_model", [UNKNOWN], async (name) => {
  for (const model of both(name)) {
    const asked = generateText({ model, prompt: "Hello", maxRetries: 0 });
    await assert.rejects(asked, (error) => APICallError.isInstance(error) && error.statusCode === 404);
  }
});

check("embeddings", EMBEDDINGS, async (name) => {
  const model = compatible.textEmbeddingModel(name);
  const { embeddings } = await embedMany({ model, values: ["one", "two"], maxRetries: 0 });
  assert.deepEqual(embeddings.map((vector) => vector.length), [8, 8]);
});

await run();
