import assert from "node:assert/strict";
import { test } from "node:test";
import { SkeinError } from "../util/errors.ts";
import type { ByteSource } from "./byte-source.ts";

const never = new AbortController().signal;

function hasCode(code: string): (error: unknown) => boolean {
  return (error) => error instanceof SkeinError && error.code === code;
}

/** What every source of bytes does. `open` makes one of the given bytes; its name contains the given one. */
export function byteSourceSuite(
  what: string,
  open: (name: string, bytes: Uint8Array) => Promise<ByteSource>,
): void {
  test(`${what}: any range inside is read, and none outside`, async () => {
    const source = await open("digits", Buffer.from("0123456789"));
    assert.match(source.name, /digits/);
    assert.equal(source.size, 10);
    const read = async (start: number, length: number): Promise<string> =>
      Buffer.from(await source.read(start, length, never)).toString();
    assert.deepEqual(
      [await read(0, 10), await read(3, 2), await read(9, 1), await read(10, 0), await read(0, 0)],
      ["0123456789", "34", "9", "", ""],
    );
    const outside = [
      [8, 3],
      [11, 0],
      [-1, 1],
      [0, -1],
      [0, 2 ** 53],
      [0.5, 1],
      [0, Number.NaN],
    ] as const;
    for (const [start, length] of outside) {
      await assert.rejects(read(start, length), hasCode("invalid_model_file"), `${start}, ${length}`);
    }
  });

  test(`${what}: reads at the same time do not disturb each other`, async () => {
    const bytes = Uint8Array.from({ length: 5_000 }, (_, i) => i % 251);
    const source = await open("many", bytes);
    const starts = Array.from({ length: 40 }, (_, i) => 100 * i);
    const reads = await Promise.all(starts.map((start) => source.read(start, 1_000, never)));
    for (const [i, read] of reads.entries()) {
      assert.deepEqual([...read], [...bytes.subarray(100 * i, 100 * i + 1_000)]);
    }
  });

  test(`${what}: nothing is read for somebody who has gone`, async () => {
    const source = await open("gone", Buffer.from("0123456789"));
    await assert.rejects(source.read(0, 1, AbortSignal.abort()), hasCode("cancelled"));
  });
}
