/** Commitments of earlier answers, made again for whoever has found that a number in them is wrong. */
import type { Engine } from "../engine/port.ts";
import { greedySampling, type Traced, type TraceRequest } from "../protocol/generate.ts";
import { freePriceSheet } from "../protocol/price.ts";
import type { Receipt, SignedReceipt } from "../receipt/receipt.ts";
import { tokensHash } from "../receipt/words.ts";
import type { Sha256 } from "../exact/commitment/commitment.ts";
import { equalBytes } from "../util/bytes.ts";
import type { Clock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";

/** From one to the next: a trace costs as much as reading a prompt as long as the answer. */
const traceIntervalMs = 1_000;
/** Reading a long answer again on a slow machine. */
const traceTimeoutMs = 600_000;

export interface TraceDeps {
  readonly sha256: Sha256;
  readonly clock: Clock;
  /** A receipt of this provider that is still kept. */
  readonly find: (sequence: number) => Promise<SignedReceipt | null>;
}

/** One at a time, and not too often: nobody pays for it. */
export function createTracer({ sha256, clock, find }: TraceDeps) {
  let freeAtMs = 0;
  let isBusy = false;

  /** @throws SkeinError `invalid_request` when it is no answer of this provider, `overloaded` */
  return async function trace(engine: Engine, request: TraceRequest, signal: AbortSignal): Promise<Traced> {
    const receipt = (await find(request.sequence))?.receipt ?? null;
    const positions = positionsOf(sha256, receipt, request);
    if (isBusy || clock.monotonicMs() < freeAtMs) {
      throw new SkeinError("overloaded", "This provider has just given a trace.", {
        hint: "Try again in a while.",
      });
    }
    isBusy = true;
    freeAtMs = clock.monotonicMs() + traceIntervalMs;
    try {
      return await readAgain(engine, request, positions, signal);
    } finally {
      isBusy = false;
    }
  };
}

/** How many positions the receipt commits to. @throws SkeinError `invalid_request` */
function positionsOf(
  sha256: Sha256,
  receipt: Receipt | null,
  { modelId, tokenIds, position }: TraceRequest,
): number {
  const execution = receipt?.execution ?? null;
  if (receipt === null || execution === null) throw refused("has given no such receipt, or not lately");
  const start = receipt.promptTokens + receipt.startPosition;
  const isSame =
    receipt.modelId === modelId &&
    tokenIds.length === start + receipt.outputTokens &&
    isHashOf(sha256, receipt.promptTokensHash, tokenIds.slice(0, receipt.promptTokens)) &&
    isHashOf(sha256, receipt.outputTokensHash, tokenIds.slice(start));
  if (!isSame) throw refused("has given that receipt for another answer");
  if (position !== null && position >= execution.positions) throw refused("has not read so many positions");
  return execution.positions;
}

function isHashOf(sha256: Sha256, hash: Uint8Array | null, tokenIds: readonly number[]): boolean {
  return hash !== null && equalBytes(hash, tokensHash(sha256, tokenIds));
}

function refused(why: string): SkeinError {
  return new SkeinError("invalid_request", `This provider ${why}.`, { retry: "never" });
}

/** As a prompt: what is committed to does not depend on where it ends. */
async function readAgain(
  engine: Engine,
  { modelId, tokenIds, position }: TraceRequest,
  positions: number,
  signal: AbortSignal,
): Promise<Traced> {
  const { contextTokensMax, trustTier: tier } = engine.model;
  const asked = {
    requestId: "trace",
    modelId,
    prompt: { kind: "tokens", tokenIds: tokenIds.slice(0, positions) },
    emitted: { tokenIds: [], text: "" },
    sampling: greedySampling,
    stop: [],
    outputTokensMax: 1,
    timeoutMs: traceTimeoutMs,
    terms: { tier, price: freePriceSheet, contextTokensMax, chargesPrompt: false, previous: null },
    ...(position === null ? {} : { leavesAt: position }),
  } as const;
  for await (const event of engine.generate(asked, signal)) {
    if (event.type !== "tokens" && event.type !== "end") continue;
    if (event.rows !== undefined) {
      return { rows: event.rows, leaves: event.leaves ?? null };
    }
  }
  throw new SkeinError("engine_failed", "The engine made no commitments.");
}
