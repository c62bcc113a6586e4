import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SkeinError } from "../../util/errors.ts";
import { boundaryOf, readForm } from "./multipart.ts";

async function* inSteps(bytes: Uint8Array, step: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += step) yield bytes.subarray(at, at + step);
}

async function read(bytes: Uint8Array, boundary: string, step: number) {
  const parts: { name: string; filename: string | null; data: Buffer }[] = [];
  for await (const event of readForm(inSteps(bytes, step), boundary)) {
    if (event.type === "part")
      parts.push({ name: event.name, filename: event.filename, data: Buffer.alloc(0) });
    else parts.at(-1)!.data = Buffer.concat([parts.at(-1)!.data, event.bytes]);
  }
  return parts;
}

test("forms are read as the platform writes them, however they are cut", async () => {
  // Bytes that look like delimiters, line breaks and ends.
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 60 }),
    fc.stringMatching(/^[\r\n\-x]{0,30}$/).map((text) => Buffer.from(text)),
  );
  const field = fc.record({
    name: fc.stringMatching(/^[a-z"[\]]{1,8}$/),
    data: bytes,
    filename: fc.option(fc.constantFrom("a.jsonl", 'ä "b".txt')),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(field, { minLength: 1, maxLength: 5 }),
      fc.integer({ min: 1, max: 40 }),
      async (fields, step) => {
        const form = new FormData();
        for (const { name, data, filename } of fields) {
          if (filename === null)
            form.append(
              name,
              Buffer.from(data)
                .toString("latin1")
                .replaceAll(/[^ -~]/g, "."),
            );
          else form.append(name, new Blob([Buffer.from(data)]), filename);
        }
        const response = new Response(form);
        const boundary = boundaryOf(response.headers.get("content-type"));
        const parts = await read(await response.bytes(), boundary, step);
        assert.equal(parts.length, fields.length);
        for (const [i, { name, data, filename }] of fields.entries()) {
          assert.equal(parts[i]!.name, name);
          assert.equal(parts[i]!.filename, filename);
          if (filename !== null) assert.ok(parts[i]!.data.equals(Buffer.from(data)));
        }
      },
    ),
    { numRuns: 300 },
  );
});

test("what is cut or no form is refused, never waited for", async () => {
  const isInvalid = (error: unknown): boolean => error instanceof SkeinError && error.status === 400;
  const whole = Buffer.from('--x\r\ncontent-disposition: form-data; name="a"\r\n\r\nabc\r\n--x--\r\n');
  assert.equal((await read(whole, "x", 7))[0]!.data.toString(), "abc");
  for (let length = 0; length < whole.length - 4; length++) {
    await assert.rejects(read(whole.subarray(0, length), "x", 5), isInvalid, `${length} bytes`);
  }
  await assert.rejects(read(Buffer.from("--x\r\nname: a\r\n\r\n"), "x", 5), isInvalid);
  await assert.rejects(read(Buffer.from(`--x\r\n${"a".repeat(20_000)}`), "x", 5_000), isInvalid);
  const part = 'content-disposition: form-data; name="a"\r\n\r\n\r\n--x\r\n';
  await assert.rejects(read(Buffer.from(`--x\r\n${part.repeat(50)}`), "x", 5_000), isInvalid);
  for (const type of [
    null,
    "application/json",
    "multipart/form-data",
    "multipart/form-data; boundary=",
    `multipart/form-data; boundary=${"a".repeat(80)}`,
  ]) {
    assert.throws(() => boundaryOf(type), SkeinError);
  }
  const noise = fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), (bytes) =>
    assert.rejects(read(bytes, "x", 9), isInvalid),
  );
  await fc.assert(noise);
});
