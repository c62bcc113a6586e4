/**
 * A decision as the gateway makes it, over its directory of that many joined providers: prompt keys, cached prefixes, what the
 * request excludes, shortlist, plan. Providers answer their probe; what their connections take is not counted.
 */
import { Directory } from "../../src/gateway/directory/directory.ts";
import { type ChooseDeps, chooseProvider, type Wish } from "../../src/gateway/search/choose-provider.ts";
import type { ProviderSession } from "../../src/network/session.ts";
import { noHints } from "../../src/router/hints.ts";
import { PrefixCache } from "../../src/router/prefix-cache.ts";
import { systemClock } from "../../src/util/clock.ts";
import { silentLogger } from "../../src/util/log.ts";
import { type Random, seededRandom } from "../../src/util/random.ts";
import { anyOffer } from "./any-offer.ts";

/** Attempts that run at the same time while decisions are made. */
const runningMax = 500;
const timings = { queueMs: 0, prefillMs: 0, decodeMs: 0 };

function sessionOf(number: number, random: Random): ProviderSession {
  const providerId = `12D3KooW${number}`;
  const model = anyOffer(random);
  return {
    providerId,
    remoteAddress: "memory",
    roundTripMs: 1 + 250 * random.next() ** 2,
    closed: false,
    offer: {
      providerId,
      sequence: 1,
      issuedAtMs: 0,
      expiresAtMs: Number.MAX_SAFE_INTEGER,
      region: "eu",
      models: [model],
    },
    status: { active: 0, queued: 0, ready: true, reason: "" },
    onChange: () => undefined,
    onClose: () => undefined,
    close: () => undefined,
    countPromptTokens: async () => 1,
    async generate(_request, _signal, sink) {
      await sink({ type: "start", promptTokens: 1, cachedTokens: 0 });
      await sink({ type: "tokens", position: 0, tokenIds: [1], tokenCount: 1, text: "x" });
      await sink({ type: "end", finishReason: "length", promptTokens: 1, outputTokens: 1, timings });
    },
  };
}

/** @param usedBytes the heap's size after a collection */
export async function measureWhole(
  offers: number,
  decisions: number,
  usedBytes: () => number,
): Promise<{ decisionUs: number[]; bytesPerOffer: number }> {
  const random = seededRandom(offers);
  const heapBytes = usedBytes();
  const directory = new Directory({ clock: systemClock, random, log: silentLogger });
  for (let i = 0; i < offers; i++) directory.add(sessionOf(i, random));
  while (directory.servingCount("model", null) < offers)
    await new Promise((resolve) => setTimeout(resolve, 5));
  const bytesPerOffer = (usedBytes() - heapBytes) / offers;
  const prefixes = new PrefixCache();
  const deps: ChooseDeps = { audits: null, clock: systemClock, random, directory, prefixes, salt: "" };
  const content = "Which goose flies at the front? ".repeat(40);
  const wish: Wish = {
    model: "model",
    modelId: null,
    owner: "key",
    isBatch: false,
    hints: { ...noHints, deny: new Set(["12D3KooW0"]) },
    request: {
      requestId: "request",
      prompt: { kind: "chat", messages: [{ role: "user", content }] },
      outputTokensMax: null,
    } as unknown as Wish["request"],
    homeId: null,
    tried: new Set(),
    contextTokensMin: 0,
    isResumed: false,
    hasFailed: false,
    contextTokensBegan: 0,
    canContinue: () => true,
  };
  const decisionUs: number[] = [];
  const running: string[] = [];
  const took = (providerId: string, by: number): void => {
    directory.entryOf(providerId)!.inFlight += by;
  };
  for (let i = 0; i < decisions; i++) {
    const startMs = performance.now();
    const { chosen, keys } = chooseProvider(deps, wish);
    decisionUs.push((performance.now() - startMs) * 1000);
    const { providerId } = chosen!.candidate;
    took(providerId, 1);
    prefixes.remember(keys, providerId, systemClock.nowMs());
    running.push(providerId);
    if (running.length > runningMax) took(running.shift()!, -1);
  }
  directory.close();
  return { decisionUs: decisionUs.slice(decisions / 10), bytesPerOffer };
}
