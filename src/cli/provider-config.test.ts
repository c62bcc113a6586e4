import assert from "node:assert/strict";
import { test } from "node:test";
import { SkeinError } from "../util/errors.ts";
import type { Context } from "./context.ts";
import { providerConfigOf, threadsOf, threadsWarning } from "./provider-config.ts";
import { resolveSettings } from "./settings.ts";

test("a model gets as many threads as there are cores at most, and what is not granted is said", () => {
  assert.deepEqual([threadsOf(null, 8), threadsOf(null, 1), threadsOf(8, 8), threadsOf(64, 8)], [7, 1, 8, 8]);
  assert.deepEqual([threadsWarning(null, 1), threadsWarning(8, 8)], [null, null]);
  assert.match(threadsWarning(64, 8)!, /64 threads.*8 cores/);
});

function contextWith(flags: Record<string, unknown>): Context {
  const resolved = resolveSettings({ flags, environment: {}, file: { path: "config.json", content: {} } });
  return { home: "home", resolved, settings: resolved.values, flags, client: () => assert.fail("not asked") };
}

test("--resume-by text is for servers that already run; other engines need no such thing", () => {
  const url = "http://127.0.0.1:11434/v1";
  const engineOf = (flags: Record<string, unknown>) =>
    providerConfigOf(contextWith({ url, ...flags }), "key").engine;
  assert.deepEqual(
    [engineOf({}), engineOf({ resumeBy: "text" })].map(
      (engine) => "resumeByText" in engine && engine.resumeByText,
    ),
    [false, true],
  );
  assert.throws(
    () => engineOf({ engine: "exact", model: "m.gguf", resumeBy: "text" }),
    (error) => error instanceof SkeinError && /--resume-by is for --engine openai/.test(error.message),
  );
});
