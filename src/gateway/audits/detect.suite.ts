/** How a cheat fares at a gateway: asked again and again, until it is found out. */
import type { AnswerChecker } from "../../audit/answer-checker.ts";
import { createLoadedChecker } from "../../audit/loaded-checker.ts";
import type { AuditView } from "../../protocol/gateway-api.ts";
import { makeSigner } from "../../receipt/fixture.suite.ts";
import { parseDocument } from "../../receipt/document.ts";
import { type TestGateway, testGateway } from "../fixture.suite.ts";
import type { Store } from "../../store/port.ts";
import { systemClock } from "../../util/clock.ts";
import type { GatewayOptions } from "../options.ts";
import type { CanaryOptions } from "./options.ts";
import { type Cheat, cheatingSession, type CheatModels } from "./cheats.suite.ts";

export interface Detection {
  readonly foundBy: "arrival" | "audit" | null;
  /** In the gateway's words. */
  readonly problem: string;
  /** Answers until it was found, that one included, and their tokens. */
  readonly answers: number;
  readonly tokens: number;
  /** Audits of answers that were not what an honest provider gives, the one that found it included. */
  readonly audits: number;
  /** Whether the gateway refuses it for this model from then on. */
  readonly isExcluded: boolean;
  readonly auditMs: number;
}

interface Options {
  readonly prompts: readonly string[];
  readonly outputTokensMax: number;
  readonly answersMax: number;
  readonly roundMs: number;
}

export async function auditingGateway(
  models: CheatModels,
  roundMs: number,
  options: Partial<GatewayOptions> & {
    readonly canaries?: CanaryOptions;
    readonly checker?: AnswerChecker;
  } = {},
  store?: Store,
): Promise<TestGateway> {
  const { canaries = null, checker = createLoadedChecker(models.sold), ...others } = options;
  const audits = {
    signer: await makeSigner(),
    checker,
    roundMs,
    retentionMs: 3600_000,
    canaries,
  };
  return testGateway({ receipts: { retentionMs: 3600_000 }, audits, ...others }, 1, systemClock, store);
}

export async function detect(models: CheatModels, cheat: Cheat, options: Options): Promise<Detection> {
  const it = await auditingGateway(models, options.roundMs);
  const session = await cheatingSession(models, cheat);
  it.gateway.addSession(session);
  await new Promise((resolve) => setTimeout(resolve, 20));
  let tokens = 0;
  try {
    for (let answers = 1; answers <= options.answersMax; answers++) {
      const asked = await ask(it, options, answers);
      tokens += asked.tokens;
      const facts = { answers, tokens };
      if (asked.problem !== null) {
        return {
          ...facts,
          foundBy: "arrival",
          problem: asked.problem,
          audits: 0,
          isExcluded: false,
          auditMs: 0,
        };
      }
      const audits = await settled(it);
      const failed = audits.find(({ result }) => result === "fail");
      if (failed === undefined) continue;
      const refused = await it.post("/v1/completions", bodyOf(options, answers));
      const problem = failed.problem ?? "";
      const isExcluded =
        refused.status === 503 && /proved to have answered wrongly/.test(await refused.text());
      const auditMs = failed.took_ms / Math.max(1, failed.positions);
      const ofWrong = audits.filter(({ request_id }) => !session.harmless.has(request_id));
      return { ...facts, foundBy: "audit", problem, audits: ofWrong.length, isExcluded, auditMs };
    }
    const audits = (await settled(it)).length;
    return {
      answers: options.answersMax,
      tokens,
      foundBy: null,
      problem: "",
      audits,
      isExcluded: false,
      auditMs: 0,
    };
  } finally {
    it.gateway.close();
  }
}

function bodyOf({ prompts, outputTokensMax }: Options, number: number) {
  const prompt = prompts[number % prompts.length];
  return { model: "sold", prompt, max_tokens: outputTokensMax, temperature: 1, seed: number };
}

/** One answer, and what was wrong with it when it came. */
async function ask(it: TestGateway, options: Options, number: number) {
  const response = await it.post("/v1/completions", bodyOf(options, number));
  const body = (await response.json()) as { id: string; usage: { completion_tokens: number } };
  if (response.status !== 200) throw new Error(JSON.stringify(body));
  const kept = await it.get(`/v1/requests/${body.id}/receipt`);
  const { choices } = parseDocument(await kept.json());
  const problem = choices[0]!.parts.find((part) => part.problem !== null)?.problem ?? null;
  return { tokens: body.usage.completion_tokens, problem };
}

const settleTimeoutMs = 60_000;

/** All audits, once none is due any more; newest first. */
export async function settled(it: TestGateway, headers: Record<string, string> = {}): Promise<AuditView[]> {
  for (let waitedMs = 0; waitedMs < settleTimeoutMs; waitedMs += 5) {
    const response = await it.get("/skein/v1/audits?limit=100", headers);
    const { data, waiting, chosen } = (await response.json()) as {
      data: AuditView[];
      waiting: number;
      chosen: number;
    };
    if (waiting + chosen === 0) return data;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error("an audit does not end");
}
