/** What `skein doctor` looks at: each check says what it found and, unless all is well, what to do. */
import { accessSync, constants, existsSync, mkdirSync, readFileSync, statfsSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { arch, cpus, freemem, platform, totalmem } from "node:os";
import { join } from "node:path";
import { inspectGguf } from "../../engine/gguf/inspect.ts";
import { toSkeinError } from "../../util/errors.ts";
import type { Context } from "../context.ts";
import { configFile } from "../home.ts";
import { checkEngine, checkGpu } from "./engine.ts";

export interface Check {
  readonly status: "ok" | "warn" | "fail";
  readonly found: string;
  /** What to do; null when all is well. */
  readonly advice: string | null;
}

export const ok = (found: string): Check => ({ status: "ok", found, advice: null });
export const warn = (found: string, advice: string): Check => ({ status: "warn", found, advice });
export const fail = (found: string, advice: string): Check => ({ status: "fail", found, advice });

type CheckFunction = (context: Context) => Check | Promise<Check>;

export const checks: readonly (readonly [name: string, check: CheckFunction])[] = [
  ["node", checkNode],
  ["cpu", checkCpu],
  ["memory", checkMemory],
  ["disk", checkDisk],
  ["home", checkHome],
  ["engine", checkEngine],
  ["gpu", checkGpu],
  ["model", checkModel],
  ["ports", checkPorts],
  ["gateway", checkGateway],
];

const nodeMajorMin = 24;
const gigabyte = 1e9;

function checkNode(): Check {
  const { node } = process.versions;
  if (Number.parseInt(node, 10) >= nodeMajorMin) return ok(`${node} on ${platform()} ${arch()}`);
  return fail(node, `Node ${nodeMajorMin} or newer is needed: https://nodejs.org`);
}

/** Instruction sets that llama.cpp is fast with; without them it works, slowly. */
function checkCpu(): Check {
  const list = cpus();
  const model = list[0]?.model.trim() ?? arch();
  const text = `${list.length} × ${model}`;
  if (platform() !== "linux" || arch() !== "x64") return ok(text);
  const flags = /^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1]?.split(" ") ?? [];
  const known = ["avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "amx_int8"].filter((flag) =>
    flags.includes(flag),
  );
  if (known.includes("avx2")) return ok(`${text} (${known.join(", ")})`);
  return warn(
    `${text} without AVX2`,
    "Small models work, slowly. In a virtual machine, pass the host's CPU through.",
  );
}

function checkMemory(): Check {
  const text = `${(freemem() / gigabyte).toFixed(1)} GB free of ${(totalmem() / gigabyte).toFixed(1)} GB`;
  if (freemem() > gigabyte) return ok(text);
  return warn(text, "Close other programs, or serve a smaller model with a smaller --context.");
}

function checkDisk({ home }: Context): Check {
  try {
    mkdirSync(home, { recursive: true, mode: 0o700 });
    const { bavail, bsize } = statfsSync(home);
    const free = bavail * bsize;
    const text = `${(free / gigabyte).toFixed(1)} GB free at ${home}`;
    return free > gigabyte ? ok(text) : warn(text, "Engines need about 0.2 GB (CUDA: 1 GB), models more.");
  } catch (error) {
    return fail(
      `${home}: ${toSkeinError(error).message}`,
      "Point SKEIN_HOME to a folder that can be written.",
    );
  }
}

function checkHome({ home }: Context): Check {
  try {
    accessSync(home, constants.W_OK | constants.R_OK);
  } catch {
    return fail(`${home} cannot be written`, "Mend its permissions, or point SKEIN_HOME to another folder.");
  }
  const secrets = ["gateway.key", "gateway.db", "join.token", "api.key", "config.json"].map((name) =>
    join(home, name),
  );
  const open =
    platform() === "win32"
      ? []
      : secrets.filter((file) => existsSync(file) && (statSync(file).mode & 0o077) !== 0);
  // A configuration without secrets in it may be readable.
  const wrong = open.filter(
    (file) => file !== configFile(home) || /token|key/i.test(readFileSync(file, "utf8")),
  );
  if (wrong.length === 0) return ok(home);
  return warn(`others can read ${wrong.join(", ")}`, `chmod 600 ${wrong.join(" ")}`);
}

async function checkModel({ flags }: Context): Promise<Check> {
  const file = flags["model"];
  if (typeof file !== "string") return ok("none given (--model <file> checks one)");
  try {
    const info = await inspectGguf(file);
    const text = `${info.title}: ${info.architecture}, ${(Number(info.parameters) / 1e9).toFixed(2)}B parameters, ${info.weightType}, context ${info.contextTokensTrained}`;
    const room = totalmem() * 0.9;
    if (info.fileBytes > room)
      return warn(
        text,
        `It needs ${(info.fileBytes / gigabyte).toFixed(1)} GB of memory for weights alone: choose a smaller quantisation.`,
      );
    if (info.chatTemplate === null)
      return warn(`${text}, no chat template`, "Only /v1/completions will work with it.");
    return ok(text);
  } catch (error) {
    const { message, hint } = toSkeinError(error);
    return fail(message, hint ?? "Give a GGUF file.");
  }
}

async function checkPorts({ settings }: Context): Promise<Check> {
  const wanted = [settings.port, settings.networkPort].filter((port) => port !== 0);
  const taken: number[] = [];
  for (const port of wanted) if (!(await isFree(port))) taken.push(port);
  if (taken.length === 0) return ok(`${wanted.join(" and ")} are free`);
  return warn(
    `${taken.join(" and ")} in use`,
    "Fine if that is your gateway; else start it with other --port and --network-port.",
  );
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

/** Offers are dated: a clock that is off by minutes makes them invalid. */
const clockOffsetMaxMs = 60_000;

async function checkGateway(context: Context): Promise<Check> {
  const startMs = Date.now();
  try {
    const client = context.client();
    const view = await client.gateway();
    const tripMs = Date.now() - startMs;
    const offsetMs = view.now_ms - (startMs + tripMs / 2);
    const text = `${client.baseUrl} answers in ${tripMs} ms, ${view.providers} providers, version ${view.version}`;
    if (Math.abs(offsetMs) < clockOffsetMaxMs) return ok(text);
    return fail(
      `${text}, but the clocks differ by ${(offsetMs / 1000).toFixed(0)} s`,
      "Set this machine's clock (NTP).",
    );
  } catch (error) {
    const { message, hint } = toSkeinError(error);
    return warn(message, hint ?? "Check its address.");
  }
}
