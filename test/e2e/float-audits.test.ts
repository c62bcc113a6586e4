/** A provider that sells a smaller model under a larger one's name, with llama.cpp: found by margins, and asked less. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import type { CalibrationRecord } from "../../src/audit/calibration.ts";
import { modelIdOfGguf } from "../../src/engine/gguf/identity.ts";
import type { AuditView, ProviderView } from "../../src/protocol/gateway-api.ts";
import { providersOf, untilAvailable } from "./pool.ts";
import { eventually, killAll, skein, skeinToEnd, stop, temporaryHome, tinyModel } from "./processes.ts";

const home = temporaryHome();
const cheatHome = temporaryHome();
const draft = join(dirname(tinyModel), "draft.F16.gguf");

after(async () => {
  await killAll();
  home.remove();
  cheatHome.remove();
});

/** What `skein calibrate` measured once for this model (docs/VERIFICATION.md), with bounds twice as high. */
function calibrationOf(modelId: string): CalibrationRecord {
  const group = (name: "greedy" | "truncated" | "plain" | "hot", fine: number, coarse: number) => ({
    name,
    streams: 350,
    tokens: 8_500,
    off: 0,
    means: [0, 0],
    means_max: [fine, coarse],
  });
  return {
    format: "skein-calibration-v1",
    model_id: modelId,
    runtime: "any processor",
    clips: [0.1, 1],
    confidence: 0.99,
    quantile: 0.999,
    streams: 1_400,
    tokens: 34_000,
    shapes: [],
    groups: [
      group("greedy", 0.004, 0.004),
      group("truncated", 0.013, 0.004),
      group("plain", 0.018, 0.003),
      group("hot", 0.06, 0.009),
    ],
    created_at: "2026-01-01T00:00:00Z",
  };
}

/** The cheat's own cache says that the smaller model is the larger one. */
async function forgeIdentity(modelId: string): Promise<void> {
  const cacheFolder = join(cheatHome.path, "cache", "identities");
  await modelIdOfGguf(draft, { cacheFolder, signal: new AbortController().signal });
  const [file] = readdirSync(cacheFolder);
  writeFileSync(join(cacheFolder, file!), modelId);
}

test("a smaller model under another's name is flagged by statistics, and loses its rank but not its place", async () => {
  const { signal } = new AbortController();
  const modelId = await modelIdOfGguf(tinyModel, {
    cacheFolder: join(home.path, "cache", "identities"),
    signal,
  });
  const folder = join(home.path, "calibrations");
  mkdirSync(folder);
  writeFileSync(join(folder, `${modelId.replace(":", "-")}.json`), JSON.stringify(calibrationOf(modelId)));
  await forgeIdentity(modelId);
  const flags = ["--port", "0", "--network-port", "0", "--audit-llama", tinyModel];
  const gateway = skein(home.path, "gateway", ...flags);
  const [url] = await gateway.printed(/http:\/\/127\.0\.0\.1:\d+/);
  const own = ["--engine", "llama", "--name", "tiny", "--join", url, "--threads", "1", "--json"];
  skein(home.path, "provide", "--model", tinyModel, ...own);
  const cheat = skein(cheatHome.path, "provide", "--model", draft, ...own);
  const [, cheatId] = await cheat.printed(/"type":"ready".*"id":"([^"]+)"/);
  await untilAvailable(url, "tiny", 2);
  const ids = (await providersOf(url, "tiny")).map(({ id }) => id);
  const honestId = ids.find((id) => id !== cheatId)!;
  // Each is asked as often as the other.
  const ask = async (seed: number): Promise<void> => {
    const allow = [ids[seed % 2]!];
    const body = { model: "tiny", prompt: "Once upon a time", temperature: 1, max_tokens: 60, seed };
    const response = await fetch(`${url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...body, skein: { allow } }),
    });
    assert.equal(response.status, 200, await response.text());
  };
  for (let seed = 0; seed < 60; seed += 4) await Promise.all([0, 1, 2, 3].map((more) => ask(seed + more)));
  const audits = async (): Promise<AuditView[]> =>
    ((await (await fetch(`${url}/skein/v1/audits?limit=100`)).json()) as { data: AuditView[] }).data;
  const failed = await eventually(
    "a flag",
    async () => (await audits()).find(({ result }) => result === "fail") ?? null,
  );
  assert.deepEqual([failed.provider, failed.tier, failed.finding!.kind], [cheatId, "float", "improbable"]);
  // Audits go on: which answers were chosen first is chance.
  await eventually("an honest answer that passes", async () =>
    (await audits()).some(({ provider, result }) => provider === honestId && result === "pass") ? true : null,
  );
  const all = await audits();
  assert.ok(all.every(({ provider, result }) => provider !== honestId || result === "pass"));
  const view = (await (await fetch(`${url}/skein/v1/providers/${cheatId}`)).json()) as ProviderView;
  assert.deepEqual(view.reputation!.excluded, []);
  assert.ok(view.reputation!.factors.find(({ name }) => name === "honesty")!.value < 0.5);
  const shown = await skeinToEnd(home.path, "providers", cheatId!, "--gateway", url);
  assert.match(shown.output, /honesty 0\.\d+: passed \d+, improbable [1-9]/);
  const list = await skeinToEnd(home.path, "audit", "list", "--gateway", url);
  assert.match(
    list.output,
    /fail: \d+ of \d+ tokens are not the ones that this model draws here; evidence e\^/,
  );
  await stop(gateway);
});

test("a model that was not calibrated here is refused at the start, with what to do", async () => {
  const empty = temporaryHome();
  const ended = await skeinToEnd(
    empty.path,
    "gateway",
    "--port",
    "0",
    "--network-port",
    "0",
    "--audit-llama",
    tinyModel,
  );
  empty.remove();
  assert.equal(ended.code, 2);
  assert.match(ended.output, /is not calibrated on this machine.*skein calibrate --model/s);
});
