/** The one suite that every implementation of the network port passes. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { SkeinError } from "../util/errors.ts";
import {
  type Connection,
  earlyFramesMax,
  frameBytesMax,
  handshakeFrameBytesMax,
  type Network,
} from "./port.ts";

export interface NetworkPair {
  /** Listens. */
  readonly server: Network;
  /** Dials out only. */
  readonly client: Network;
  readonly third: Network;
  close(): Promise<void>;
}

const soon = (): AbortSignal => AbortSignal.timeout(5_000);
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export function describeNetwork(name: string, make: () => Promise<NetworkPair>): void {
  describe(`network ${name}`, () => {
    let pair: NetworkPair;
    before(async () => {
      pair = await make();
    });
    after(() => pair.close());

    async function connect(): Promise<{ near: Connection; far: Connection }> {
      const incoming = new Promise<Connection>((resolve) => pair.server.onConnection(resolve));
      const near = await pair.client.dial(pair.server.addresses()[0]!, soon());
      return { near, far: await incoming };
    }

    /** Two peers that let each other in. */
    async function connectFriends(): Promise<{ near: Connection; far: Connection }> {
      const both = await connect();
      both.near.allowLargeFrames();
      both.far.allowLargeFrames();
      return both;
    }

    test("both ends know who the other is", async () => {
      const { near, far } = await connect();
      assert.equal(near.peerId, pair.server.peerId);
      assert.equal(far.peerId, pair.client.peerId);
      near.close();
    });

    test("frames of every size arrive whole and in order", async () => {
      const { near, far } = await connectFriends();
      const sizes = [0, 1, 3, 4, 5, 1000, 65_535, 65_536, 300_000, frameBytesMax, 7];
      const received: Uint8Array[] = [];
      const all = new Promise<void>((resolve) => {
        far.onFrame((frame) => {
          received.push(frame.slice());
          if (received.length === sizes.length) resolve();
        });
      });
      for (const [i, size] of sizes.entries()) {
        if (!near.send(new Uint8Array(size).fill(i + 1))) await near.drained();
      }
      await all;
      assert.deepEqual(
        received.map((frame) => frame.length),
        sizes,
      );
      assert.ok(received.every((frame, i) => frame.every((byte) => byte === i + 1)));
      near.close();
    });

    test("frames that came before anybody listened are not lost", async () => {
      const { near, far } = await connect();
      near.send(Uint8Array.of(1));
      near.send(Uint8Array.of(2));
      await pause(30);
      const got: number[] = [];
      far.onFrame((frame) => got.push(frame[0]!));
      await pause(30);
      assert.deepEqual(got, [1, 2]);
      near.close();
    });

    test("a frame beyond the limit is refused, and the connection lives on", async () => {
      const { near, far } = await connect();
      assert.throws(() => near.send(new Uint8Array(frameBytesMax + 1)), SkeinError);
      const got = new Promise<Uint8Array>((resolve) => far.onFrame(resolve));
      near.send(Uint8Array.of(9));
      assert.deepEqual([...(await got)], [9]);
      near.close();
    });

    test("a stranger's large frame closes the connection; a smaller one does not", async () => {
      const { near, far } = await connect();
      const closed = new Promise<string>((resolve) => far.onClose(resolve));
      const got: number[] = [];
      far.onFrame((frame) => got.push(frame.length));
      near.onFrame(() => undefined);
      near.send(new Uint8Array(handshakeFrameBytesMax));
      near.send(new Uint8Array(handshakeFrameBytesMax + 1));
      await closed;
      assert.deepEqual(got, [handshakeFrameBytesMax]);
    });

    test("a stranger that talks before anybody listens is cut off", async () => {
      const { near, far } = await connect();
      const closed = new Promise<string>((resolve) => far.onClose(resolve));
      for (let i = 0; i <= earlyFramesMax; i++) near.send(Uint8Array.of(1));
      await closed;
    });

    test("bytes of a frame are noticed before it is whole", async () => {
      const { near, far } = await connectFriends();
      let noticed = 0;
      far.onActivity(() => (noticed += 1));
      const noticedBefore = new Promise<number>((resolve) => far.onFrame(() => resolve(noticed)));
      near.send(new Uint8Array(frameBytesMax));
      assert.ok((await noticedBefore) > 0);
      near.close();
    });

    test("a sender that waits when told to gets everything through", async () => {
      const { near, far } = await connectFriends();
      const arrived = new Promise<void>((resolve) => {
        let bytes = 0;
        far.onFrame((frame) => {
          bytes += frame.length;
          if (bytes === 30_000_000) resolve();
        });
      });
      const chunk = new Uint8Array(100_000);
      let waits = 0;
      for (let i = 0; i < 300; i++) {
        if (near.send(chunk)) continue;
        waits += 1;
        await near.drained();
      }
      await arrived;
      assert.ok(waits > 0, "back-pressure was felt");
      near.close();
    });

    test("2,000 small frames arrive in order", async () => {
      const { near, far } = await connect();
      const got: number[] = [];
      const all = new Promise<void>((resolve) => {
        far.onFrame((frame) => {
          got.push(new DataView(frame.buffer, frame.byteOffset).getUint32(0));
          if (got.length === 2000) resolve();
        });
      });
      for (let i = 0; i < 2000; i++) {
        const frame = new Uint8Array(16);
        new DataView(frame.buffer).setUint32(0, i);
        if (!near.send(frame)) await near.drained();
      }
      await all;
      assert.ok(got.every((value, i) => value === i));
      near.close();
    });

    test("closing is heard at both ends, once, and sending afterwards throws", async () => {
      const { near, far } = await connect();
      const heard: string[] = [];
      far.onFrame(() => undefined);
      near.onClose((reason) => heard.push(reason));
      const farHeard = new Promise<string>((resolve) => far.onClose(resolve));
      near.close("enough");
      near.close("again");
      await farHeard;
      assert.deepEqual(heard, ["enough"]);
      assert.throws(() => near.send(Uint8Array.of(1)), SkeinError);
      await near.drained();
    });

    test("what was sent before a close still arrives", async () => {
      const { near, far } = await connect();
      const got = new Promise<Uint8Array>((resolve) => far.onFrame(resolve));
      near.send(Uint8Array.of(42));
      near.close();
      assert.deepEqual([...(await got)], [42]);
    });

    test("dialling nobody or nonsense fails with a sentence", async () => {
      const wrong = pair.server.addresses()[0]!.replaceAll(pair.server.peerId, pair.third.peerId);
      for (const address of ["nonsense", wrong.replace(/tcp\/\d+/, "tcp/9")]) {
        await assert.rejects(
          pair.client.dial(address, soon()),
          (error) =>
            error instanceof SkeinError && error.code === "connection_failed" && error.message.length > 10,
        );
      }
    });

    test("a peer that was dialled or heard of is not a neighbour found on the local network", async () => {
      const found: string[] = [];
      pair.client.onDiscovery(({ peerId }) => found.push(peerId));
      const { near } = await connect();
      await pause(100);
      assert.deepEqual(found, []);
      near.close();
    });

    test("a dial can be given up", async () => {
      await assert.rejects(pair.client.dial(pair.server.addresses()[0]!, AbortSignal.abort()), SkeinError);
    });

    test("gossip reaches a peer that the author is not connected to", { timeout: 20_000 }, async () => {
      pair.server.onConnection(() => undefined);
      await pair.client.dial(pair.server.addresses()[0]!, soon());
      await pair.third.dial(pair.server.addresses()[0]!, soon());
      const topic = "skein/test/1";
      const got = new Promise<[string, string]>((resolve) => {
        pair.third.subscribe(topic, (data, from) => resolve([new TextDecoder().decode(data), from]));
      });
      pair.server.subscribe(topic, () => undefined);
      pair.client.subscribe(topic, () => undefined);
      // Meshes form with the heartbeats of the gossip protocol: publish until it is heard.
      const timer = setInterval(
        () => void pair.client.publish(topic, new TextEncoder().encode("hello")).catch(() => undefined),
        300,
      );
      try {
        assert.deepEqual(await got, ["hello", pair.client.peerId]);
      } finally {
        clearInterval(timer);
      }
    });
  });
}
