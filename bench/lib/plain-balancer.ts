/**
 * The rival of the router: a load balancer that picks by a simple rule among whoever is joined and ready. It goes
 * on elsewhere after a failure as the gateway does, so that only the choice differs.
 */
import type { ProviderSession } from "../../src/network/session.ts";
import { type Emitted, type GenerateRequest, greedySampling } from "../../src/protocol/generate.ts";
import type { Clock } from "../../src/util/clock.ts";
import { SkeinError, toSkeinError } from "../../src/util/errors.ts";
import type { Random } from "../../src/util/random.ts";
import { modelId } from "./modelled-engine.ts";

export type Rule = "random" | "roundRobin" | "leastLoaded";

/** As the gateway's: attempts without a token between them, and the wait while nobody is there. */
const attemptsMax = 4;
const waitMaxMs = 15_000;
const pulseMs = 200;
const requestTimeoutMs = 600_000;

interface Member {
  readonly session: ProviderSession;
  running: number;
}

export interface BalancedAnswer {
  readonly promptTokens: number;
  readonly cachedTokens: number;
}

export class PlainBalancer {
  readonly #deps: { readonly clock: Clock; readonly random: Random };
  readonly #rule: Rule;
  #members: readonly Member[] = [];
  #turn = 0;

  constructor(deps: { readonly clock: Clock; readonly random: Random }, rule: Rule) {
    this.#deps = deps;
    this.#rule = rule;
  }

  add(session: ProviderSession): void {
    const member: Member = { session, running: 0 };
    this.#members = [...this.#members, member];
    session.onClose(() => (this.#members = this.#members.filter((other) => other !== member)));
  }

  close(): void {
    for (const { session } of this.#members) session.close("the balancer stops");
  }

  /** @throws SkeinError when nobody can answer */
  async answer(
    tokenIds: readonly number[],
    outputTokens: number,
    onTokens: (count: number) => void,
  ): Promise<BalancedAnswer> {
    const emitted: { tokenIds: number[]; text: string } = { tokenIds: [], text: "" };
    const seen = { promptTokens: 0, cachedTokens: 0 };
    const tried = new Set<Member>();
    let waitedMs = 0;
    for (let failures = 0; ;) {
      const member = this.#choose(tried);
      if (member === null) {
        if (waitedMs >= waitMaxMs) throw new SkeinError("no_provider", "Nobody is there.");
        await new Promise<void>((resolve) => this.#deps.clock.schedule(pulseMs, resolve));
        waitedMs += pulseMs;
        tried.clear();
        continue;
      }
      const before = emitted.tokenIds.length;
      try {
        await this.#attempt(member, requestOf(tokenIds, outputTokens, emitted), seen, (ids, text) => {
          emitted.tokenIds.push(...ids);
          emitted.text += text;
          onTokens(ids.length);
        });
        return seen;
      } catch (thrown) {
        const error = toSkeinError(thrown, "provider_failed");
        if (emitted.tokenIds.length > before) failures = waitedMs = 0;
        if (error.code !== "overloaded" && ++failures >= attemptsMax) throw error;
        tried.add(member);
      }
    }
  }

  async #attempt(
    member: Member,
    request: GenerateRequest,
    seen: { promptTokens: number; cachedTokens: number },
    onTokens: (tokenIds: readonly number[], text: string) => void,
  ): Promise<void> {
    const { session } = member;
    member.running += 1;
    try {
      let hasEnded = false;
      await session.generate(request, new AbortController().signal, (event) => {
        if (event.type === "tokens") onTokens(event.tokenIds, event.text);
        else if (event.type === "start" && request.emitted.tokenIds.length === 0) {
          const { promptTokens, cachedTokens } = event;
          Object.assign(seen, { promptTokens, cachedTokens });
        } else if (event.type === "end") hasEnded = true;
        return undefined;
      });
      if (!hasEnded) throw new SkeinError("provider_failed", "The answer had no end.");
    } finally {
      member.running -= 1;
    }
  }

  #choose(tried: ReadonlySet<Member>): Member | null {
    const fit = this.#members.filter(
      (member) => !tried.has(member) && member.session.status.ready && slotsOf(member) > 0,
    );
    if (fit.length === 0) return null;
    const start = Math.floor(this.#deps.random.next() * fit.length);
    if (this.#rule === "random") return fit[start]!;
    if (this.#rule === "roundRobin") return fit[this.#turn++ % fit.length]!;
    // Among equals chance decides, so that the first of the list is not the busiest.
    const from = [...fit.slice(start), ...fit.slice(0, start)];
    return from.reduce((a, b) => (b.running / slotsOf(b) < a.running / slotsOf(a) ? b : a));
  }
}

function slotsOf({ session }: Member): number {
  return session.offer?.models[0]?.parallelMax ?? 0;
}

function requestOf(tokenIds: readonly number[], outputTokensMax: number, emitted: Emitted): GenerateRequest {
  return {
    requestId: "plain",
    modelId,
    prompt: { kind: "tokens", tokenIds },
    emitted: { tokenIds: [...emitted.tokenIds], text: emitted.text },
    sampling: greedySampling,
    stop: [],
    constraint: null,
    logprobs: null,
    outputTokensMax,
    timeoutMs: requestTimeoutMs,
  };
}
