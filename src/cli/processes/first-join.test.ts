import assert from "node:assert/strict";
import { test } from "node:test";
import type { GatewayLinkState } from "../../provider/index.ts";
import { ManualClock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";
import { createFirstJoin } from "./first-join.ts";

const joined: GatewayLinkState = { state: "joined", gatewayId: "g", address: "a" };

function failed(message: string): GatewayLinkState {
  return { state: "waiting", error: new SkeinError("connection_failed", message), retryInMs: 500 };
}

function says(...patterns: RegExp[]): (error: unknown) => boolean {
  return (error) => error instanceof SkeinError && patterns.every((pattern) => pattern.test(error.text));
}

test("the first of several gateways may fail as long as another is joined", async () => {
  const first = createFirstJoin(new ManualClock(), { targets: ["a", "b"], lan: false });
  first.onGateway("a", failed("a is away"));
  first.onGateway("a", failed("a is still away"));
  first.onGateway("b", joined);
  await first.settled;
});

test("when all failed, the failure names all", async () => {
  const first = createFirstJoin(new ManualClock(), { targets: ["a", "b"], lan: false });
  first.onGateway("a", failed("a is away"));
  first.onGateway("heard of", failed("not asked for"));
  first.onGateway("b", failed("b is away"));
  await assert.rejects(first.settled, says(/a: a is away/, /b: b is away/));
});

test("a single gateway's failure is told as it is", async () => {
  const first = createFirstJoin(new ManualClock(), { targets: ["a"], lan: false });
  first.onGateway("a", failed("a is away"));
  await assert.rejects(first.settled, says(/^a is away$/));
});

test("on the local network there is some time to find one", async () => {
  const clock = new ManualClock();
  const found = createFirstJoin(clock, { targets: ["a"], lan: true });
  found.onGateway("a", failed("a is away"));
  clock.advance(10_000);
  found.onGateway("heard of", joined);
  await found.settled;
  const none = createFirstJoin(clock, { targets: [], lan: true });
  clock.advance(20_000);
  await assert.rejects(none.settled, says(/local network/));
});
