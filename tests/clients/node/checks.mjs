// What the scripts of clients in Node share: the like of python/checks.py, which says how they run.

import { randomUUID } from "node:crypto";

export const URL = process.env.FAREBOX_URL;
export const KEY = process.env.FAREBOX_KEY;

export const GPT = "gpt-4o-mini";
export const CLAUDE = "claude-sonnet-4-5";
export const GEMINI = "gemini-2.5-flash";
export const EVERY = [GPT, CLAUDE, GEMINI];
export const UNKNOWN = "no-such-model";
export const EMBEDDINGS = ["text-embedding-3-small", "gemini-embedding-001"];

// A red square of two by two.
export const PNG =
  "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR42mP4z8AARAwQCgAf7gP9Y167WwAAAABJRU5ErkJggg==";

const checks = [];

export function check(name, models, body) {
  checks.push({ name, models, body });
}

/** An order to refuse the first attempt with 429. */
export const once = (seconds = 1) => `[[once 429 ${seconds} ${randomUUID()}]]`;

/** The exception of this class, and of no other, that the promise ends with. */
export async function raises(kind, promise) {
  try {
    await promise;
  } catch (error) {
    if (error?.constructor !== kind) throw new Error(`${error?.constructor?.name} instead of ${kind.name}: ${error}`);
    return error;
  }
  throw new Error(`${kind.name} was not raised`);
}

export async function run() {
  const wanted = process.argv.slice(2);
  let failed = 0;
  for (const { name, models, body } of checks) {
    if (wanted.length && !wanted.includes(name)) continue;
    for (const model of models) {
      try {
        await body(model);
        console.log(`ok ${name} ${model}`);
      } catch (error) {
        failed += 1;
        console.log(`FAILED ${name} ${model}: ${error.stack ?? error}`);
      }
    }
  }
  process.exit(failed ? 1 : 0);
}
