/** Portkey's gateway over OpenAI-compatible servers that are killed and started again, watched as ours is. */
import { type ChildProcess, fork } from "node:child_process";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import type { Prey } from "../../test/e2e/havoc.ts";
import { eventually } from "../../test/e2e/processes.ts";
import { watchStream } from "../../test/e2e/watch-stream.ts";
import { type Portkey, portkeyHeaders, portkeyTarget } from "./portkey.ts";

const upstreamFile = fileURLToPath(new URL("../upstream-child.ts", import.meta.url));

interface Upstream {
  readonly port: number;
  child: ChildProcess;
  /** Whether it answers. */
  ready: boolean;
}

export interface RivalPool extends Prey {
  close(): void;
}

/**
 * As the rival's documentation has it: load balancing over all, and whatever fails is tried again at each of them.
 *
 * @param random a number from 0 to 1, for whom to kill
 */
export async function startRivalPool(
  portkey: Portkey,
  given: {
    readonly engine: "exact" | "llama";
    readonly count: number;
    readonly cacheFolder: string;
    readonly random: () => number;
  },
): Promise<RivalPool> {
  const { engine } = given;
  const model = engine === "exact" ? "tiny-exact" : "tiny";
  const start = (port: number): ChildProcess =>
    fork(upstreamFile, [engine, String(port), given.cacheFolder], {
      execArgv: ["--disable-warning=ExperimentalWarning"],
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    });
  const upstreams = await Promise.all(
    Array.from({ length: given.count }, async (): Promise<Upstream> => {
      const port = await freePort();
      return { port, child: start(port), ready: false };
    }),
  );
  let isClosed = false;
  const untilReady = async (upstream: Upstream): Promise<void> => {
    await eventually(`an upstream on port ${upstream.port}`, async () =>
      isClosed ? true : serves(upstream.port, model),
    );
    upstream.ready = true;
  };
  await Promise.all(upstreams.map(untilReady));
  const targets = upstreams.map(({ port }) => portkeyTarget(`http://127.0.0.1:${port}`));
  const balanced = { strategy: { mode: "loadbalance" }, targets };
  const headers = portkeyHeaders({ strategy: { mode: "fallback" }, targets: [balanced, ...targets] });

  return {
    ask: (question, signal) =>
      watchStream(portkey.url, { ...question, model }, undefined, { headers, signal }),
    async killOne(more) {
      const ready = upstreams.filter((upstream) => upstream.ready);
      if (ready.length < Math.max(2, Math.min(2 + more, upstreams.length))) return false;
      const victim = ready[Math.floor(given.random() * ready.length)]!;
      victim.ready = false;
      victim.child.kill("SIGKILL");
      victim.child = start(victim.port);
      untilReady(victim).catch((error: unknown) => console.error(String(error)));
      return true;
    },
    fruitlessCuts: () => Promise.resolve(null),
    explain: () => Promise.resolve(""),
    close() {
      isClosed = true;
      for (const { child } of upstreams) child.kill("SIGKILL");
    },
  };
}

async function serves(port: number, model: string): Promise<true | null> {
  try {
    const { data } = (await (await fetch(`http://127.0.0.1:${port}/v1/models`)).json()) as {
      data: { id: string }[];
    };
    return data.some(({ id }) => id === model) ? true : null;
  } catch {
    return null; // Not yet.
  }
}

/** Free at this moment; whoever takes it in between makes the start fail. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
