/** Constructs a provider's engine from its configuration. Only the code of that engine is loaded. */
import type { Engine } from "../../engine/port.ts";
import { type Clock, systemClock } from "../../util/clock.ts";
import type { Logger } from "../../util/log.ts";
import type { ExactEngineConfig, LlamaEngineConfig, ProviderConfig, Report } from "./config.ts";

type Reporter = (report: Report) => void;
type Deps = { clock: Clock; log: Logger };

interface StartedEngine {
  readonly engine: Engine;
  /** What it runs on, for people. */
  readonly backend: string;
}

/** Shorter waits need no percentages. */
const progressMinMs = 2_000;
const never = new AbortController().signal;

/** @throws SkeinError when the model cannot be loaded, or the server not reached */
export async function startEngine(
  config: ProviderConfig,
  providerId: string,
  log: Logger,
  report: Reporter,
): Promise<StartedEngine> {
  const deps = { clock: systemClock, log };
  const { engine: options } = config;
  switch (options.kind) {
    case "openai": {
      const { createOpenAiEngine } = await import("../../engine/openai.ts");
      const engine = await createOpenAiEngine({ ...deps, fetch }, { ...options, providerId });
      return { engine, backend: options.url };
    }
    case "exact":
      return startExactEngine(deps, options, report);
    case "llama":
      return startLlamaEngine(deps, options, config.identityCacheFolder, report);
  }
}

async function startExactEngine(
  deps: Deps,
  options: ExactEngineConfig,
  report: Reporter,
): Promise<StartedEngine> {
  const { openExactEngine } = await import("../../engine/exact/open.ts");
  const engine = await openExactEngine(deps, {
    ...options,
    signal: never,
    onProgress: percentages((percent) =>
      report({ type: "progress", text: `converting the model to integers (once): ${percent} %` }),
    ),
    onConverted: () => report({ type: "progress", text: "loading the model" }),
  });
  return { engine, backend: "WebAssembly" };
}

async function startLlamaEngine(
  deps: Deps,
  options: LlamaEngineConfig,
  identityCacheFolder: string,
  report: Reporter,
): Promise<StartedEngine> {
  const [{ inspectGguf }, { modelIdOfGguf }, { createLlamaEngine }] = await Promise.all([
    import("../../engine/gguf/inspect.ts"),
    import("../../engine/gguf/identity.ts"),
    import("../../engine/llama/index.ts"),
  ]);
  const info = await inspectGguf(options.modelPath);
  report({
    type: "progress",
    text: `${info.title}: ${info.architecture}, ${info.weightType}, ${megabytes(info.fileBytes)}`,
  });
  const modelId = await modelIdOfGguf(options.modelPath, {
    cacheFolder: identityCacheFolder,
    signal: never,
    onProgress: percentages((percent) =>
      report({ type: "progress", text: `computing the model's identity: ${percent} %` }),
    ),
  });
  report({ type: "progress", text: "loading the model" });
  const engine = await createLlamaEngine(deps, { ...options, modelId, name: options.name ?? info.name });
  return { engine, backend: engine.backend };
}

/** Tells every tenth of a work that takes a while. */
function percentages(tell: (percent: number) => void): (done: number, total: number) => void {
  const startMs = performance.now();
  let told = 0;
  return (done, total) => {
    const percent = Math.floor((done / total) * 10) * 10;
    if (percent === told || performance.now() - startMs < progressMinMs) return;
    told = percent;
    tell(percent);
  };
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0)} MB`;
}
