/**
 * Helps to load a model: is told which file, then reads, hashes and places pieces of it until there are none. It imports little, because to
 * start it takes a good part of the time that it saves.
 */
import { readSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import type { Kernels } from "../../exact/wasm/kernels.ts";
import { PiecePourer } from "../../exact/wasm/pieces.ts";
import type { LoadShare } from "./load-threads.ts";

parentPort!.once("message", ({ plan, thread, descriptor }: LoadShare) => {
  const { module, memory, hashWords } = plan.kernels;
  const { buffer } = memory;
  const pourer = new PiecePourer(
    {
      kernels: new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Kernels,
      hashWords,
      bytes: (address, length) => new Uint8Array(buffer, address, length),
      integers: (address, count) => new Int32Array(buffer, address, count),
    },
    plan,
    thread,
  );
  for (let piece = pourer.take(); piece !== null; piece = pourer.take()) {
    const room = pourer.room(piece);
    // What lies beyond a shortened file is found by its hash.
    for (let done = 0, read = 1; done < room.length && read > 0; done += read) {
      read = readSync(descriptor, room, done, room.length - done, piece.tensor.offset + piece.at + done);
    }
    pourer.pour(piece);
  }
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- that is of windows
  parentPort!.postMessage("done");
});
