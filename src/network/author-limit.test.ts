import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../util/clock.ts";
import {
  AuthorLimit,
  authorsMax,
  authorWindowMs,
  messagesMax,
  messagesPerAuthorMax,
} from "./author-limit.ts";

function allowed(limit: AuthorLimit, authors: readonly string[]): number {
  return authors.filter((author) => limit.allows(author)).length;
}

test("one author's flood does not silence the others, and ends with the window", () => {
  const clock = new ManualClock();
  const limit = new AuthorLimit(clock);
  assert.equal(allowed(limit, Array<string>(10_000).fill("loud")), messagesPerAuthorMax);
  assert.equal(allowed(limit, ["quiet"]), 1);
  clock.advance(authorWindowMs);
  assert.equal(allowed(limit, ["loud"]), 1);
});

test("many identities are bounded too, in number and in what they may cost together", () => {
  const limit = new AuthorLimit(new ManualClock());
  const authors = Array.from({ length: 10_000 }, (_, i) => String(i));
  assert.equal(allowed(limit, authors), authorsMax);
  assert.equal(allowed(limit, [...authors, ...authors, ...authors]), messagesMax - authorsMax);
});
