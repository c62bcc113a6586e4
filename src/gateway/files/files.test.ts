import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { toFile } from "openai";
import { ManualClock } from "../../util/clock.ts";
import { arrived, clientOf, failure } from "../client.suite.ts";
import { testGateway } from "../fixture.suite.ts";

const KiB = 1024;
const limits = { fileBytesMax: 3000 * KiB, ownerBytesMax: 5000 * KiB, retentionMs: 30 * 24 * 3600_000 };
const baseURL = "http://127.0.0.1:4141/v1";

const bytesOf = (length: number): Buffer =>
  Buffer.from(Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8)) & 0xff));

test("files: kept, listed, read and deleted, each by its own API key alone", async () => {
  const own = testGateway({ apiKeys: ["key-a", "key-b"], files: limits });
  const client = clientOf(own);
  const other = clientOf(own, "key-b");
  const content = bytesOf(2500 * KiB + 17);
  const file = await client.files.create({
    file: await toFile(content, 'dir/ä "1".jsonl'),
    purpose: "batch",
  });
  assert.equal(file.filename, 'ä "1".jsonl');
  assert.equal(file.bytes, content.length);
  assert.equal(file.purpose, "batch");
  assert.equal(file.expires_at! - file.created_at, 30 * 24 * 3600);
  assert.deepEqual(await client.files.retrieve(file.id), file);
  const got = await client.files.content(file.id);
  assert.ok(Buffer.from(await got.arrayBuffer()).equals(content));
  assert.match(got.headers.get("content-disposition")!, /filename\*=UTF-8''%C3%A4/);
  await assert.rejects(other.files.retrieve(file.id), failure(404, null));
  await assert.rejects(other.files.delete(file.id), failure(404, null));
  assert.equal((await other.files.list()).data.length, 0);
  // Together they are more than the key may keep; another key's do not count.
  const second = { file: await toFile(content, "2"), purpose: "batch" } as const;
  await assert.rejects(client.files.create(second), failure(403, "file"));
  await other.files.create({ ...second, file: await toFile(content, "2") });
  await assert.rejects(
    client.files.create({ file: await toFile(bytesOf(3001 * KiB), "3"), purpose: "batch" }),
    failure(413, "file"),
  );
  await client.files.delete(file.id);
  await assert.rejects(client.files.content(file.id), failure(404, null));
  await client.files.create({ ...second, file: await toFile(content, "2") });
  own.gateway.close();
});

test("files: lists in pages, in both orders, by purpose", async () => {
  const own = testGateway({ files: limits });
  const client = clientOf(own);
  const ids: string[] = [];
  for (let i = 0; i < 5; i++) {
    const purpose = i === 2 ? "user_data" : "batch";
    ids.push((await client.files.create({ file: await toFile(Buffer.from(`${i}`), "f"), purpose })).id);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  const all: string[] = [];
  for await (const { id } of client.files.list({ limit: 2, order: "asc" })) all.push(id);
  assert.deepEqual(all, ids);
  const page = await client.files.list({ limit: 2, after: ids[4]! });
  assert.deepEqual(
    page.data.map(({ id }) => id),
    [ids[3], ids[2]],
  );
  assert.equal(page.has_more, true);
  assert.deepEqual(
    (await client.files.list({ purpose: "user_data" })).data.map(({ id }) => id),
    [ids[2]],
  );
  for (const [query, param] of [
    ["limit=0", "limit"],
    ["limit=x", "limit"],
    ["order=up", "order"],
    ["after=../x", "after"],
  ]) {
    const response = await own.get(`/v1/files?${query}`);
    assert.equal(response.status, 400);
    assert.equal(((await response.json()) as { error: { param: string } }).error.param, param);
  }
  own.gateway.close();
});

test("files: gone when their time is over, bytes and all", async () => {
  const clock = new ManualClock();
  const own = testGateway({ files: limits }, 1, clock);
  const client = clientOf(own);
  const expires_after = { anchor: "created_at", seconds: 3600 } as const;
  const short = await client.files.create({
    file: await toFile(bytesOf(9), "a"),
    purpose: "batch",
    expires_after,
  });
  const long = await client.files.create({ file: await toFile(bytesOf(9), "b"), purpose: "batch" });
  assert.equal(short.expires_at! - short.created_at, 3600);
  clock.advance(3600_000);
  await assert.rejects(client.files.retrieve(short.id), failure(404, null));
  assert.deepEqual(
    (await client.files.list()).data.map(({ id }) => id),
    [long.id],
  );
  await new Promise((resolve) => setTimeout(resolve, 20));
  const left = await own.store.scan({ prefix: "file-data/", limit: 10 });
  assert.equal(left.length, 1);
  own.gateway.close();
});

test("files: bad forms are refused by name and leave nothing behind", async () => {
  const own = testGateway({ files: limits });
  const form = (fields: Record<string, string | Blob>): Promise<Response> => {
    const body = new FormData();
    for (const [name, value] of Object.entries(fields)) body.append(name, value);
    return arrived(new Request(`${baseURL}/files`, { method: "POST", body })).then(own.gateway.fetch);
  };
  const file = new Blob([new Uint8Array(1200 * KiB)]);
  const cases: [Record<string, string | Blob>, string | null][] = [
    [{ purpose: "batch" }, "file"],
    [{ file }, "purpose"],
    [{ file, purpose: "nonsense" }, "purpose"],
    [{ file, purpose: "batch", "expires_after[seconds]": "5" }, "expires_after"],
    [{ file, purpose: "batch", "expires_after[anchor]": "created_at" }, "expires_after"],
    [{ purpose: "b".repeat(2000), file }, null],
  ];
  for (const [fields, param] of cases) {
    const response = await form(fields);
    assert.equal(response.status, 400, Object.keys(fields).join());
    assert.equal(((await response.json()) as { error: { param: string | null } }).error.param, param);
  }
  assert.equal((await own.post("/v1/files", { purpose: "batch" })).status, 415);
  const cut = new Request(`${baseURL}/files`, {
    method: "POST",
    headers: { "content-type": "multipart/form-data; boundary=x" },
    body: `--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n${"a".repeat(2_000_000)}`,
  });
  assert.equal((await own.gateway.fetch(cut)).status, 400);
  assert.equal((await own.gateway.fetch(new Request(`${baseURL}/files`, { method: "PUT" }))).status, 405);
  assert.equal((await own.get("/v1/files/..%2Fx")).status, 404);
  assert.equal((await own.store.scan({ prefix: "file", limit: 10 })).length, 0);
  own.gateway.close();
});

test("uploads: parts in the order asked for become one file", async () => {
  const own = testGateway({ apiKeys: ["key-a", "key-b"], files: limits });
  const client = clientOf(own);
  const content = bytesOf(2000 * KiB);
  const begin = {
    bytes: content.length,
    filename: "big.jsonl",
    mime_type: "text/jsonl",
    purpose: "batch",
  } as const;
  const upload = await client.uploads.create(begin);
  assert.equal(upload.status, "pending");
  const part = async (from: number, to?: number) =>
    (await client.uploads.parts.create(upload.id, { data: await toFile(content.subarray(from, to), "p") }))
      .id;
  const late = await part(1500 * KiB);
  const first = await part(0, 1500 * KiB);
  await assert.rejects(part(0, 1), failure(400, "data"));
  await assert.rejects(client.uploads.complete(upload.id, { part_ids: [first] }), failure(400, "part_ids"));
  await assert.rejects(
    client.uploads.complete(upload.id, { part_ids: [first, first] }),
    failure(400, "part_ids.1"),
  );
  await assert.rejects(
    client.uploads.complete(upload.id, { part_ids: [first, late], md5: "0".repeat(32) }),
    failure(400, "md5"),
  );
  await assert.rejects(clientOf(own, "key-b").uploads.cancel(upload.id), failure(404, null));
  const md5 = createHash("md5").update(content).digest("hex");
  const done = await client.uploads.complete(upload.id, { part_ids: [first, late], md5 });
  assert.equal(done.status, "completed");
  const got = await (await client.files.content(done.file!.id)).arrayBuffer();
  assert.ok(Buffer.from(got).equals(content));
  await assert.rejects(client.uploads.cancel(upload.id), failure(409, null));
  await assert.rejects(client.uploads.create({ ...begin, bytes: 4000 * KiB }), failure(413, "file"));
  // What is announced has its room: the file, an upload of as much, and no third.
  const announced = await client.uploads.create({ ...begin, bytes: 2900 * KiB });
  await assert.rejects(client.uploads.create(begin), failure(403, "file"));
  await client.uploads.cancel(announced.id);
  await client.files.delete(done.file!.id);
  const second = await client.uploads.create(begin);
  await client.uploads.parts.create(second.id, { data: await toFile(bytesOf(10), "p") });
  assert.equal((await client.uploads.cancel(second.id)).status, "cancelled");
  assert.equal((await own.store.scan({ prefix: "file", limit: 10 })).length, 0);
  assert.equal((await own.store.scan({ prefix: "upload-", limit: 10 })).length, 0);
  own.gateway.close();
});
