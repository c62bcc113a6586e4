/**
 * What a gateway adds to a stream: milliseconds to the first token, CPU per token, memory; with one request at a time, and
 * with 100 and 500 live streams of 20 tokens/s (`--quick`: 100; `--full`: 100, 500 and 1,500, three runs each). Side by side: the upstream itself, nginx as a
 * plain proxy, Portkey's gateway, and the least that many streams over one encrypted connection cost. CPU and memory are
 * those of the process between clients and source.
 */
import { type ChildProcess, fork } from "node:child_process";
import { parseArgs } from "node:util";
import { fileURLToPath } from "node:url";
import { nginxVersion, startNginx } from "./lib/nginx.ts";
import { tokensPerSecond, warmUpMs } from "./lib/pace.ts";
import { portkeyHeaders, portkeyTarget, portkeyVersion, startPortkey } from "./lib/portkey.ts";
import { childrenOf } from "./lib/process-usage.ts";
import { freePort } from "./lib/rival-pool.ts";
import { quantile } from "./lib/routing-load.ts";
import { type Measured, measureStreams } from "./lib/stream-load.ts";

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    full: { type: "boolean", default: false },
    streams: { type: "string", multiple: true },
    only: { type: "string", multiple: true },
  },
});
const levels =
  values.streams?.map(Number) ??
  (values.full ? [1, 100, 500, 1_500] : values.quick ? [1, 100] : [1, 100, 500]);
const runs = values.full ? 3 : 1;
const settleMs = warmUpMs + (values.quick ? 1_000 : 3_000);
const measureMs = values.quick ? 5_000 : 12_000;

/** Something between clients and source. */
interface Target {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly processIds: readonly number[];
  stop(): void;
}
type Kind = "direct" | "gateway" | "raw" | "nginx" | "portkey";

interface Child {
  readonly child: ChildProcess;
  /** What it told when it was ready. */
  readonly told: readonly string[];
}

const childFile = fileURLToPath(new URL("./gateway-child.ts", import.meta.url));

function startChild(role: string, streams: number, ...addresses: readonly string[]): Promise<Child> {
  const child = fork(childFile, [role, String(streams), ...addresses], {
    execArgv: ["--disable-warning=ExperimentalWarning"],
  });
  return new Promise((resolve, reject) => {
    child.once("message", (told) => resolve({ child, told: told as string[] }));
    child.once("exit", (code) => reject(new Error(`${role} ended with code ${code}`)));
  });
}

function between({ child }: Child, source: Child, url: string): Target {
  const stop = (): void => void [child, source.child].map((one) => one.kill("SIGKILL"));
  return { url, headers: {}, processIds: [child.pid!], stop };
}

const starters: Record<Kind, (streams: number) => Promise<Target>> = {
  async direct(streams) {
    const source = await startChild("http", streams);
    return {
      url: source.told[0]!,
      headers: {},
      processIds: [],
      stop: () => void source.child.kill("SIGKILL"),
    };
  },
  async gateway(streams) {
    const gateway = await startChild("gateway", streams);
    const [url, address] = gateway.told;
    const source = await startChild("providers", streams, address!);
    await untilServed(url!, Math.ceil(streams / 100));
    return between(gateway, source, url!);
  },
  async raw(streams) {
    const source = await startChild("raw", streams);
    const mux = await startChild("mux", streams, ...source.told);
    return between(mux, source, mux.told[0]!);
  },
  async nginx(streams) {
    const source = await startChild("http", streams);
    const nginx = await startNginx(source.told[0]!, await freePort());
    const processIds = childrenOf(nginx.child.pid!);
    const stop = (): void => (nginx.stop(), void source.child.kill("SIGKILL"));
    return { url: nginx.url, headers: {}, processIds, stop };
  },
  async portkey(streams) {
    const source = await startChild("http", streams);
    const portkey = await startPortkey(await freePort());
    const headers = portkeyHeaders(portkeyTarget(source.told[0]!));
    const stop = (): void => (portkey.stop(), void source.child.kill("SIGKILL"));
    return { url: portkey.url, headers, processIds: [portkey.child.pid!], stop };
  },
};

async function untilServed(url: string, providers: number): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    const { data } = (await (await fetch(`${url}/skein/v1/providers`)).json()) as {
      data: { state: string }[];
    };
    if (data.filter(({ state }) => state === "available").length >= providers) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("the providers were not served");
}

function kindsHere(): Kind[] {
  const kinds: Kind[] = ["direct", "raw", "gateway"];
  if (nginxVersion() === null)
    console.log("without nginx: it is not on PATH (Debian: apt install nginx-light)");
  else kinds.push("nginx");
  kinds.push("portkey");
  return kinds.filter((kind) => values.only === undefined || values.only.includes(kind));
}

async function measure(kind: Kind, streams: number): Promise<Measured | null> {
  let target: Target;
  try {
    target = await starters[kind](streams);
  } catch (error) {
    console.log(`without ${kind}: ${error instanceof Error ? error.message : String(error)}`);
    return null;
  }
  try {
    return await measureStreams(target, { streams, settleMs, measureMs });
  } finally {
    target.stop();
  }
}

const round = (value: number): number => Math.round(value * 100) / 100;
const median = (samples: readonly number[]): number => quantile(samples, 0.5);
const flat: Record<string, number> = {};

function summarize(streams: number, measured: ReadonlyMap<Kind, readonly Measured[]>): void {
  const of = (kind: Kind, value: (one: Measured) => number | null): number | null => {
    const found = (measured.get(kind) ?? []).map(value).filter((one) => one !== null);
    return found.length === 0 ? null : median(found);
  };
  const put = (name: string, value: number | null): void => {
    if (value !== null) flat[`${name}At${streams}`] = round(value);
  };
  const added = (kind: Kind, q: number): number | null => {
    const [here, direct] = [kind, "direct" as const].map((one) =>
      of(one, ({ ttftMs }) => quantile(ttftMs, q)),
    );
    return here === null || direct === null ? null : here! - direct!;
  };
  const ratio = (a: number | null, b: number | null): number | null =>
    a === null || b === null ? null : a / b;
  put(
    "directTtftMsP50",
    of("direct", ({ ttftMs }) => median(ttftMs)),
  );
  for (const [kind, prefix] of [
    ["gateway", ""],
    ["raw", "raw"],
    ["nginx", "nginx"],
    ["portkey", "portkey"],
  ] as const) {
    const name = (text: string): string =>
      prefix === "" ? text : prefix + text[0]!.toUpperCase() + text.slice(1);
    put(name("ttftAddedMsP50"), added(kind, 0.5));
    put(name("ttftAddedMsP99"), added(kind, 0.99));
    put(
      name("cpuPerTokenUs"),
      of(kind, (one) => one.cpuPerTokenUs),
    );
    put(
      name("memoryMb"),
      of(kind, (one) => one.residentMb),
    );
  }
  put("ttftAddedToPortkey", ratio(added("gateway", 0.5), added("portkey", 0.5)));
  const cpu = (kind: Kind): number | null => of(kind, (one) => one.cpuPerTokenUs);
  // Of answers of two tokens it would say nothing of streams.
  if (streams === 1) return;
  put("cpuToRaw", ratio(cpu("gateway"), cpu("raw")));
  put("cpuToPortkey", ratio(cpu("gateway"), cpu("portkey")));
}

const kinds = kindsHere();
for (const streams of levels) {
  const measured = new Map<Kind, Measured[]>();
  for (let run = 1; run <= runs; run++) {
    for (const kind of kinds) {
      const seen = await measure(kind, streams);
      if (seen === null) continue;
      measured.set(kind, [...(measured.get(kind) ?? []), seen]);
      const { ttftMs, cpuPerTokenUs, residentMb, errors } = seen;
      console.log(
        `${streams} streams, ${kind.padEnd(8)} first token ${round(median(ttftMs))} ms (p50), ${round(quantile(ttftMs, 0.99))} ms (p99)` +
          (cpuPerTokenUs === null ? "" : `, ${round(cpuPerTokenUs)} µs CPU per token`) +
          `${residentMb === null ? "" : `, ${Math.round(residentMb)} MB`}; ${round(seen.tokensPerSecond)} tokens/s each` +
          (errors.length === 0 ? "" : `; ${errors.length} errors: ${errors[0]}`),
      );
    }
  }
  summarize(streams, measured);
}
console.log(
  JSON.stringify({
    ...flat,
    tokensPerSecondPerStream: tokensPerSecond,
    runs,
    rival: `the upstream itself, nginx ${nginxVersion() ?? "(not here)"}, Portkey's gateway ${portkeyVersion}, a raw multiplexer`,
  }),
);
process.exit(0);
