// What the scripts of clients in Node share: the like of python/checks.py, which says how they run.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { connect } from "node:net";
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
// Bytes: of one body that is too large, and of one for two of which there is room at a time.
const [TOO_LARGE, LARGE] = [2 << 20, 3 << 19];

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
 * and a key in place of the usual one.
 */
export async function refused(ask) {
  const [taken, stopped] = [fresh(), fresh()];
  await ask("Hello", { [SAME]: taken });
  return {
    forbidden: [1, () => ask("Hello", {}, NARROW_KEY)],
    conflict: [1, () => ask("Good bye", { [SAME]: taken })],
    too_large: [1, () => ask("x".repeat(TOO_LARGE))],
    over_budget: [1, () => ask("Hello", { "farebox-max-cost": "0.0000001" })],
    cancelled: [1, () => Promise.race([ask("[[wait 60000]]", { [SAME]: stopped }), stop(stopped)])],
    deadline_exceeded: [2, () => ask("[[wait 60000]]", { "farebox-timeout": "3s" })],
  };
}

/** Stops a call over the bus, as soon as there is one; never comes back. */
async function stop(id) {
  const { hostname, port } = new globalThis.URL(process.env.FAREBOX_NATS);
  const bus = connect(port, hostname).setEncoding("utf8");
  bus.write(`CONNECT {"verbose":false}\r\nSUB _INBOX.${id} 1\r\n`);
  const order = () => bus.write(`PUB llm.cancel.${id} _INBOX.${id} 0\r\n\r\n`);
  order();
  for await (const said of bus) {
    if (/"cancelled": ?true/.test(said)) break;
    if (said.includes("MSG ")) await sleep(50).then(order);
  }
  await new Promise(() => {});
}

/**
 * Why one of three large bodies that come at once is not taken, where there is room for two; those that come again are. `ask`
 * takes a text and how often the SDK is to ask again, and returns the answer's.
 */
export async function crowd(kind, ask) {
  const order = `[[wait 1000]] [[say Served.]] ${" ".repeat(LARGE)}`;
  const three = (retries) => Promise.allSettled([1, 2, 3].map(() => ask(order, retries)));
  let failed = [];
  // One that is late finds the room of one that was served: then they come once more.
  for (let left = 10; failed.length === 0 && left > 0; left -= 1) {
    failed = (await three(0)).filter(({ status }) => status === "rejected");
  }
  // Two, if they ran out of room in the same moment.
  assert.ok(failed.length === 1 || failed.length === 2, `${failed.length} failed`);
  assert.ok(failed.every(({ reason }) => reason.constructor === kind), failed[0].reason);
  assert.deepEqual((await three(5)).map(({ value }) => value), Array(3).fill("Served."));
  return failed[0].reason;
}

/** A body that does not arrive in time, which is 3 s: also where farebox begins to wait late. */
export async function* slowBody() {
  const bytes = new TextEncoder();
  yield bytes.encode("{");
  await sleep(7000);
  yield bytes.encode("}");
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
