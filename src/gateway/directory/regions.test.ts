/** Declared regions against measured round trips, over the whole path. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ProviderView, RequestView } from "../../protocol/gateway-api.ts";
import { defaultPolicy } from "../../router/policy.ts";
import { FakeSession, PassingTime, question, testGateway, type TestGateway } from "../fixture.suite.ts";
import { roundTripOf } from "./candidate.ts";

/** Longer than the directory's sweep. */
const sweepMs = 6_000;

interface Answer {
  readonly skein?: { provider: string; request_id: string };
  readonly error?: { message: string };
}

async function ask(setup: TestGateway, skein: object): Promise<Answer> {
  const response = await setup.post("/v1/chat/completions", { ...question, skein });
  return (await response.json()) as Answer;
}

async function viewOf(setup: TestGateway, id: string): Promise<ProviderView> {
  const { data } = (await (await setup.get("/skein/v1/providers")).json()) as { data: ProviderView[] };
  return data.find((view) => view.id === id)!;
}

/** Four providers near the gateway, and one that is not; all declare the same region. */
async function crowd(time: PassingTime, region: string, liarMs: number): Promise<TestGateway> {
  const setup = testGateway({ region: "us-east" }, 1, time);
  for (const [id, floorMs] of [
    ["near1", 10],
    ["near2", 14],
    ["near3", 22],
    ["near4", 60],
    ["liar", liarMs],
  ] as const) {
    const session = await setup.add(id);
    Object.assign(session, {
      region,
      roundTripMs: floorMs + 5,
      roundTripFloor: { ms: floorMs, samples: 64 },
    });
    session.changed();
  }
  await time.after(sweepMs);
  return setup;
}

test("a hint for a region leaves out whoever cannot be there, and says so everywhere", async () => {
  const time = new PassingTime();
  const setup = await crowd(time, "eu-west", 250);
  const last = await ask(setup, { region: "eu", allow: ["liar", "near4"] });
  assert.equal(last.skein?.provider, "near4");
  const { decisions } = (await (
    await setup.get(`/v1/requests/${last.skein.request_id}`)
  ).json()) as RequestView;
  assert.equal(decisions[0]!.rejected_counts["region_doubtful"], 1);
  const [candidate] = decisions[0]!.candidates;
  assert.deepEqual([candidate!.round_trip_ms, candidate!.round_trip_from], [65, "measured"]);
  const refused = await ask(setup, { region: "eu-west", allow: ["liar"] });
  assert.match(refused.error!.message, /1 whose round trip contradicts that region/);
  const view = await viewOf(setup, "liar");
  assert.match(
    view.region_doubt!,
    /declares 'eu-west', but its shortest round trip is 250 ms; 22 ms are usual/,
  );
  assert.match(view.work.reasons.find(({ reason }) => reason === "region_doubtful")!.advice, /--region/);
  assert.equal((await viewOf(setup, "near4")).region_doubt, null);
  // Whoever asks for no region may still have it.
  assert.equal((await ask(setup, { allow: ["liar"] })).skein?.provider, "liar");
  setup.gateway.close();
  time.end();
});

test("in the gateway's own region the distance decides; a doubt ends when the measurements do not support it", async () => {
  const time = new PassingTime();
  const setup = await crowd(time, "us-east-1", 130);
  assert.match((await viewOf(setup, "liar")).region_doubt!, /where this gateway is/);
  const session = new FakeSession("liar", (await setup.add("near5")).engine);
  Object.assign(session, { region: "us-east-1", roundTripFloor: { ms: 30, samples: 64 } });
  setup.gateway.addSession(session);
  await time.after(sweepMs);
  assert.equal((await viewOf(setup, "liar")).region_doubt, null);
  setup.gateway.close();
  time.end();
});

test("whoever was not compared with its region yet comes last for it, also when it declares another one all of a sudden", async () => {
  const time = new PassingTime();
  const setup = await crowd(time, "eu-west", 20);
  const provider = async (skein: object): Promise<string | undefined> =>
    (await ask(setup, { allow: ["near4", "liar"], ...skein })).skein?.provider;
  assert.equal(await provider({ region: "eu" }), "liar", "it is the nearer one of both");
  const stranger = await setup.add("stranger");
  Object.assign(stranger, { region: "eu-west", roundTripMs: 1, roundTripFloor: { ms: 1, samples: 3 } });
  stranger.changed();
  const both = { allow: ["near4", "stranger"] };
  assert.equal(await provider({ ...both, region: "eu" }), "near4");
  assert.equal(await provider(both), "stranger");
  Object.assign(stranger, { roundTripFloor: { ms: 1, samples: 8 } });
  await time.after(sweepMs);
  assert.equal(await provider({ ...both, region: "eu" }), "stranger");
  stranger.region = "eu-south";
  stranger.changed();
  assert.equal(await provider({ ...both, region: "eu" }), "near4");
  setup.gateway.close();
  time.end();
});

test("what was measured counts, else the coordinate, else the policy's value, but no less than was waited", () => {
  const session = {
    roundTripMs: null as number | null,
    estimatedRoundTripMs: null as number | null,
    unansweredMs: 0,
  };
  const seen = (change: Partial<typeof session>): [number, string] => {
    const { roundTripMs, roundTripFrom } = roundTripOf(
      Object.assign(session, change) as never,
      defaultPolicy,
    );
    return [roundTripMs, roundTripFrom];
  };
  assert.deepEqual(seen({}), [defaultPolicy.unknownRoundTripMs, "assumed"]);
  assert.deepEqual(seen({ estimatedRoundTripMs: 12 }), [12, "estimated"]);
  assert.deepEqual(seen({ unansweredMs: 300 }), [300, "estimated"]);
  assert.deepEqual(seen({ estimatedRoundTripMs: null }), [300, "assumed"]);
  assert.deepEqual(seen({ estimatedRoundTripMs: 12, roundTripMs: 240 }), [240, "measured"]);
});
