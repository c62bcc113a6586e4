/** A TCP proxy in user space that makes a line bad: delay, jitter, loss, little bandwidth, corruption, silence. */
import { createServer, connect, type Server, type Socket } from "node:net";
import type { AddressInfo } from "node:net";

export interface Line {
  /** One way. */
  delayMs: number;
  jitterMs: number;
  /** Part of the pieces that are "lost": TCP would send them again, so they come late, and all behind them. */
  lossRate: number;
  lossStallMs: number;
  bytesPerSecond: number;
  /** Nothing passes any more, and nobody is told. */
  blackHole: boolean;
  /** The next piece towards the target is damaged. */
  corruptNext: boolean;
}

const goodLine: Line = {
  delayMs: 0,
  jitterMs: 0,
  lossRate: 0,
  lossStallMs: 0,
  bytesPerSecond: Number.POSITIVE_INFINITY,
  blackHole: false,
  corruptNext: false,
};

export interface DelayProxy {
  readonly port: number;
  /** May be changed while it runs. */
  readonly line: Line;
  /** Cuts all connections with a reset. */
  reset(): void;
  close(): void;
}

export async function startDelayProxy(
  targetPort: number,
  line: Partial<Line> = {},
  random: () => number = Math.random,
): Promise<DelayProxy> {
  const current: Line = { ...goodLine, ...line };
  const sockets = new Set<Socket>();
  const server: Server = createServer((from) => {
    const to = connect({ host: "127.0.0.1", port: targetPort, noDelay: true });
    for (const [socket, other] of [
      [from, to],
      [to, from],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.once("close", () => {
        sockets.delete(socket);
        if (!current.blackHole) other.destroy();
      });
    }
    carry(from, to, current, random);
    carry(to, from, current, random);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    line: current,
    reset() {
      for (const socket of sockets) socket.resetAndDestroy();
    },
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

/** Pieces keep their order: each is due no earlier than the one before. */
function carry(from: Socket, to: Socket, line: Line, random: () => number): void {
  let dueMs = 0;
  const onItsWay: Buffer[] = [];
  from.on("data", (piece: Buffer) => {
    if (line.blackHole) return;
    const nowMs = performance.now();
    const lostMs = random() < line.lossRate ? line.lossStallMs : 0;
    const wantedMs = nowMs + line.delayMs + random() * line.jitterMs + lostMs;
    dueMs = Math.max(dueMs, wantedMs) + (piece.length / line.bytesPerSecond) * 1000;
    if (line.corruptNext) {
      line.corruptNext = false;
      piece[Math.floor(piece.length / 2)]! ^= 0x40;
    }
    onItsWay.push(piece);
    // Timers of nearly the same time fire in any order; pieces do not.
    setTimeout(() => {
      const next = onItsWay.shift()!;
      if (!line.blackHole && to.writable) to.write(next);
    }, dueMs - nowMs);
  });
}
