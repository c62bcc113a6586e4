/** The gateway's process dies and another one takes its place: clients get the rest, once, and are charged once. */
import assert from "node:assert/strict";
import {
  body,
  chunksOf,
  idOf,
  inWorld,
  lastId,
  limits,
  provider,
  read,
  rest,
  resume,
  textsOf,
} from "./lives.suite.ts";

for (const [name, more] of Object.entries({ "one choice": {}, "several choices": { n: 3 } })) {
  inWorld(`killed in the middle, the rest comes as if nothing had been: ${name}`, async (world) => {
    const undisturbed = world.start();
    await undisturbed.add("p1", provider);
    const expected = await read(await undisturbed.post("/v1/chat/completions", { ...body, ...more }));
    const { usage } = chunksOf(expected).at(-1)!;
    for (const count of [1, 2, 7, 40, expected.length - 3, expected.length - 1]) {
      const first = world.start();
      await first.add("p1", provider);
      const response = await first.post("/v1/chat/completions", { ...body, ...more }, resume);
      assert.equal(response.headers.get("x-skein-resume"), "true");
      const before = await read(response, count);
      first.handle.isDead = true;
      const second = world.start();
      await second.add("p2", provider);
      const after = await read(await rest(second, idOf(response), lastId(before)));
      assert.deepEqual(textsOf([...before, ...after]), textsOf(expected), `killed after ${count}`);
      assert.deepEqual(chunksOf(after).findLast((chunk) => chunk.usage != null)?.usage ?? usage, usage);
      assert.match(after.at(-1)!, /^id: .*\.2\ndata: \[DONE\]$/);
      const ids = [...before, ...after].map((event) => lastId([event]));
      assert.equal(new Set(ids).size, ids.length, "no event twice");
      // From the beginning, and once more.
      assert.deepEqual(textsOf(await read(await rest(second, idOf(response), null))), textsOf(expected));
      const metrics = await (await second.get("/metrics")).text();
      assert.ok(
        !/skein_fees_nanousd_total\S* \d/.test(metrics) || metrics.includes(` ${usage.fee.amount}\n`),
      );
    }
  });
}

inWorld("each life goes on where the one before was written down", async (world) => {
  const long = { ...provider, answerTokens: 300 };
  const undisturbed = world.start();
  await undisturbed.add("p1", long);
  const expected = textsOf(await read(await undisturbed.post("/v1/chat/completions", body)));
  let gateway = world.start();
  let session = await gateway.add("p1", long);
  let response = await gateway.post("/v1/chat/completions", body, resume);
  const id = idOf(response);
  const events: string[] = [];
  for (let life = 0; life < 4; life++) {
    events.push(...(await read(response, 20)));
    // Later than the client reads, so that the disk is ahead of it.
    if (life % 2 === 0) await world.time.after(400);
    gateway.handle.isDead = true;
    gateway = world.start();
    session = await gateway.add(`p${life}`, long);
    const begun: number[] = [];
    const generate = session.events.bind(session);
    session.events = (request, signal) => {
      if (request.requestId !== "probe") begun.push(request.emitted.tokenIds.length);
      return generate(request, signal);
    };
    response = await rest(gateway, id, lastId(events));
    await world.time.after(50);
    const tokens = 15 * (life + 1);
    assert.ok(begun.length === 1 && begun[0]! > tokens - 15, `from token ${begun[0]} in life ${life}`);
  }
  events.push(...(await read(response)));
  assert.deepEqual(textsOf(events), expected);
});

inWorld("an answer that was whole needs no provider, and is not counted again", async (world) => {
  const first = world.start();
  await first.add("p1", provider);
  const response = await first.post("/v1/chat/completions", body, resume);
  const all = await read(response);
  await world.time.after(1_000);
  first.handle.isDead = true;
  const second = world.start();
  const again = await read(await rest(second, idOf(response), null));
  assert.deepEqual(
    [textsOf(again), chunksOf(again).at(-1)!.usage],
    [textsOf(all), chunksOf(all).at(-1)!.usage],
  );
  assert.deepEqual(await read(await rest(second, idOf(response), lastId(all))), []);
  const metrics = await (await second.get("/metrics")).text();
  assert.doesNotMatch(metrics, /(fees_nanousd_total|operation_duration_seconds_count)\S* \d/);
  await world.time.after(61_000);
  assert.equal((await rest(second, idOf(response), null)).status, 404);
  assert.equal(await world.recordCount(), 0);
});

inWorld(
  "while no provider is back the client is told to try again, and then gets the rest",
  async (world) => {
    const first = world.start();
    await first.add("p1", provider);
    const response = await first.post("/v1/chat/completions", body, resume);
    await world.time.after(600);
    const before = await read(response, 1);
    // It stands where the disk is: nothing that is there already can be sent.
    const whole = await read(await rest(first, idOf(response), lastId(before)), 25);
    first.handle.isDead = true;
    const second = world.start();
    const ahead = lastId(whole).replace(/\d+$/, "500");
    const early = await rest(second, idOf(response), ahead);
    assert.equal(early.status, 503);
    assert.match(((await early.json()) as { error: { message: string } }).error.message, /has come back yet/);
    const waiting = rest(second, idOf(response), lastId(whole));
    await world.time.after(500);
    await second.add("p2", provider);
    const after = await read(await waiting);
    const undisturbed = textsOf(await read(await second.post("/v1/chat/completions", body)));
    assert.deepEqual(textsOf([...before, ...whole, ...after]), undisturbed);
  },
);

inWorld("only the same API key, only well-formed ids, and not after it was cancelled", async (world) => {
  const first = world.start(["one", "two"]);
  await first.add("p1", provider);
  const as = (key: string): Record<string, string> => ({ authorization: `Bearer ${key}` });
  const response = await first.post("/v1/chat/completions", body, { ...resume, ...as("one") });
  await read(response, 5);
  first.handle.isDead = true;
  const second = world.start(["one", "two"]);
  await second.add("p2", provider);
  const id = idOf(response);
  assert.equal((await rest(second, id, null, as("two"))).status, 404);
  assert.equal((await rest(second, id, "1.2.3.4", as("one"))).status, 400);
  assert.equal((await rest(second, `${id}/../x`, null, as("one"))).status, 404);
  const url = `http://127.0.0.1:4141/v1/requests/${id}/events`;
  const cancel = (key: string): Promise<Response> =>
    second.gateway.fetch(new Request(url, { method: "DELETE", headers: as(key) }));
  assert.equal((await cancel("two")).status, 404);
  assert.equal((await cancel("one")).status, 204);
  assert.equal((await rest(second, id, null, as("one"))).status, 404);
  assert.equal(await world.recordCount(), 0);
});

inWorld("nothing stays of streams that ended, were left, or failed at once; nor for ever", async (world) => {
  const gateway = world.start();
  await gateway.add("p1", provider);
  await read(await gateway.post("/v1/chat/completions", body, resume));
  await world.time.after(61_000);
  assert.equal(await world.recordCount(), 0, "ended");
  await read(await gateway.post("/v1/chat/completions", { ...body, max_tokens: 90 }, resume), 3);
  await world.time.after(limits.resumeGraceMs + 65_000);
  assert.equal(await world.recordCount(), 0, "left");
  assert.equal((await gateway.post("/v1/chat/completions", { ...body, model: "x" }, resume)).status, 404);
  assert.equal(await world.recordCount(), 0, "failed at once");
  await read(await gateway.post("/v1/chat/completions", body, resume), 3);
  gateway.handle.isDead = true;
  assert.ok((await world.recordCount()) > 0);
  await world.time.after(limits.requestTimeoutMs + 61_000);
  assert.equal(await world.recordCount(), 0, "expired");
});

inWorld("a planned stop keeps what there is; a disk that is full stops no stream", async (world) => {
  const first = world.start();
  await first.add("p1", provider);
  const response = await first.post("/v1/chat/completions", body, resume);
  const before = await read(response, 12);
  first.gateway.close();
  const second = world.start();
  await second.add("p2", provider);
  const after = await read(await rest(second, idOf(response), lastId(before)));
  second.handle.isFull = true;
  const full = await second.post("/v1/chat/completions", body, resume);
  assert.equal(full.headers.get("x-skein-resume"), "until-restart");
  assert.deepEqual(textsOf(await read(full)), textsOf([...before, ...after]));
});
