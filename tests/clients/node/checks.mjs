// What the scripts of clients in Node share: the like of python/checks.py, which says how they run.

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

export const URL = process.env.FAREBOX_URL;
export const KEY = process.env.FAREBOX_KEY;
export const NARROW_KEY = process.env.FAREBOX_NARROW_KEY;
export const LIMITED_KEY = process.env.FAREBOX_LIMITED_KEY;

export const GPT = "gpt-4o-mini";
export const CLAUDE = "claude-sonnet-4-5";
export const GEMINI = "gemini-2.5-flash";
export const EVERY = [GPT, CLAUDE, GEMINI];
export const GPT_THINKS = "gpt-5-mini";
export const THINKERS = [GPT_THINKS, CLAUDE, GEMINI];
export const UNKNOWN = "no-such-model";
export const EMBEDDINGS = ["text-embedding-3-small", "gemini-embedding-001"];

// A red square of two by two.
export const PNG =
  "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR42mP4z8AARAwQCgAf7gP9Y167WwAAAABJRU5ErkJggg==";

export const TASK = "farebox-task-id";
export const SAME = "Idempotency-Key";
// Bytes of a body that is too large.
const TOO_LARGE = 2 << 20;

const checks = [];

export function check(name, models, body) {
  checks.push({ name, models, body });
}

export const fresh = () => randomUUID();

/** An order to refuse the first attempt with 429. */
export const once = (seconds = 1) => `[[once 429 ${seconds} ${fresh()}]]`;

/** `fetch`, and the tries that the last request has taken. */
export function counted() {
  const count = { tries: 0 };
  count.fetch = (...asked) => ((count.tries += 1), fetch(...asked));
  return count;
}

/**
 * By kind: the call that farebox itself refuses, and how often an SDK that has one retry makes it. `ask` takes a text, headers,
 * and a key in place of the usual one. (python/refusals.py has those, too, that take more than a request.)
 */
export async function refused(ask) {
  const taken = fresh();
  await ask("Hello", { [SAME]: taken });
  return {
    forbidden: [1, () => ask("Hello", {}, NARROW_KEY)],
    conflict: [1, () => ask("Good bye", { [SAME]: taken })],
    too_large: [1, () => ask("x".repeat(TOO_LARGE))],
    over_budget: [1, () => ask("Hello", { "farebox-max-cost": "0.0000001" })],
    deadline_exceeded: [2, () => ask("[[wait 60000]]", { "farebox-timeout": "500ms" })],
  };
}

/** How a task's calls ended, once there is a row of one. */
export async function outcomes(task) {
  const body = `SELECT outcome FROM farebox.calls WHERE task_id = '${task}'`;
  for (let left = 200; left > 0; left -= 1) {
    const found = (await (await fetch(process.env.FAREBOX_CLICKHOUSE, { method: "POST", body })).text()).trim();
    if (found) return found.split("\n");
    await sleep(100);
  }
  throw new Error(`no row of ${task}`);
}

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
