import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { SkeinError } from "../util/errors.ts";
import { FrameReader } from "./frame-reader.ts";
import { frameBytesMax, handshakeFrameBytesMax } from "./port.ts";

function header(length: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, length);
  return bytes;
}

test("frames are cut out of any chunking of the byte stream", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }),
      fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 20 }),
      (frames, cuts) => {
        const bytes = frames.flatMap((frame) => [...header(frame.length), ...frame]);
        const reader = new FrameReader();
        const got: number[][] = [];
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const size = cuts[i % cuts.length]!;
          reader.push(Uint8Array.from(bytes.slice(at, at + size)), (frame) => got.push([...frame]));
          at += size;
        }
        assert.deepEqual(
          got,
          frames.map((frame) => [...frame]),
        );
      },
    ),
  );
});

test("a length beyond the limit is refused before anything is allocated, in one piece or many", () => {
  const nothing = (): void => assert.fail("no frame");
  const isViolation = (error: unknown): boolean =>
    error instanceof SkeinError && error.code === "protocol_violation";
  assert.throws(() => new FrameReader().push(header(handshakeFrameBytesMax + 1), nothing), isViolation);
  const reader = new FrameReader();
  reader.frameBytesMax = frameBytesMax;
  reader.push(header(frameBytesMax), nothing);
  const other = new FrameReader();
  const parts = [...header(frameBytesMax + 1)].map((byte) => Uint8Array.of(byte));
  assert.throws(() => parts.forEach((part) => other.push(part, nothing)), isViolation);
});

test("a raised limit holds for the very next frame of the same piece", () => {
  const reader = new FrameReader();
  const large = new Uint8Array(handshakeFrameBytesMax + 1);
  const piece = Uint8Array.of(...header(1), 7, ...header(large.length), ...large);
  const lengths: number[] = [];
  reader.push(piece, (frame) => {
    lengths.push(frame.length);
    reader.frameBytesMax = frameBytesMax;
  });
  assert.deepEqual(lengths, [1, large.length]);
});

test("an unfinished frame holds its bytes, not the pieces they came in", async () => {
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc") as () => void;
  const reader = new FrameReader();
  reader.push(header(60_000), () => undefined);
  const pieces: WeakRef<ArrayBuffer>[] = [];
  for (let i = 0; i < 100; i++) {
    const received = new ArrayBuffer(65_536);
    pieces.push(new WeakRef(received));
    reader.push(new Uint8Array(received, 100 * i, 1), () => undefined);
  }
  await new Promise((resolve) => setTimeout(resolve, 1));
  collectGarbage();
  assert.ok(pieces.filter((piece) => piece.deref() !== undefined).length < 5);
  let length = 0;
  reader.push(new Uint8Array(59_900), (frame) => (length = frame.length));
  assert.equal(length, 60_000);
});
