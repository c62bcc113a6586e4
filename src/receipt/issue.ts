/** The provider's side: watches an answer go by, signs checkpoints on the way and the receipt at its end. */
import { hashBytes, type Sha256 } from "../exact/commitment/commitment.ts";
import type { GenerateEvent } from "../protocol/generate.ts";
import { fee } from "../protocol/price.ts";
import type { Signer } from "../protocol/signing.ts";
import type { Clock } from "../util/clock.ts";
import { toSkeinError } from "../util/errors.ts";
import { askedOf, requestHash, type RequestWithTerms } from "./asked.ts";
import { checkpointTokens, signCheckpoint } from "./checkpoint.ts";
import {
  encodeReceipt,
  noEvidence,
  type Receipt,
  type ReceiptFinish,
  type SignedReceipt,
  signReceipt,
} from "./receipt.ts";
import { Trace } from "./trace.ts";
import { textHash, tokensHash } from "./words.ts";

/** A receipt's place among all of its provider. */
export interface ReceiptPlace {
  readonly sequence: number;
  /** Digest of the one before; zeros for the first. */
  readonly previous: Uint8Array;
}

/** All receipts of a provider, one behind the other. */
export interface ReceiptChain {
  /** Makes the next receipt and resolves once it cannot be forgotten any more. @throws SkeinError `store_failed` */
  append(make: (place: ReceiptPlace) => Promise<SignedReceipt>): Promise<SignedReceipt>;
}

export interface IssueDeps {
  readonly sha256: Sha256;
  readonly signer: Signer;
  readonly clock: Clock;
  readonly chain: ReceiptChain;
}

/** What answers. */
export interface Issuer {
  /** Kind and version. */
  readonly engine: string;
  /** Of the exact tier's operations; null in other tiers. */
  readonly opsHash: Uint8Array | null;
}

/**
 * Passes an engine's events on, without what is not for the gateway. Behind the end, and before a failure is thrown, comes the receipt; when
 * the consumer leaves, it is still made and kept.
 */
export async function* withReceipt(
  deps: IssueDeps,
  issuer: Issuer,
  request: RequestWithTerms,
  events: AsyncIterable<GenerateEvent>,
): AsyncGenerator<GenerateEvent> {
  const answer = new DeliveredAnswer(deps, issuer, request);
  let isAccountedFor = false;
  try {
    for await (const event of events) {
      const passed = answer.take(event);
      yield passed;
      if (passed.type === "tokens" && answer.isCheckpointDue) yield await answer.checkpoint();
    }
    isAccountedFor = true;
    yield await answer.receipt("failed");
  } catch (error) {
    if (!isAccountedFor && answer.isWorthReceipt) {
      isAccountedFor = true;
      yield await answer.receipt(toSkeinError(error).code === "cancelled" ? "cancelled" : "failed");
    }
    throw error;
  } finally {
    // Nobody listens any more.
    if (!isAccountedFor && answer.isWorthReceipt) await answer.receipt("cancelled");
  }
}

type End = Extract<GenerateEvent, { type: "end" }>;

class DeliveredAnswer {
  readonly #deps: IssueDeps;
  readonly #issuer: Issuer;
  readonly #request: RequestWithTerms;
  readonly #requestHash: Uint8Array;
  readonly #trace: Trace;
  readonly #receivedMs: number;
  readonly #startMs: number;
  /** The whole sequence, as far as it is known: prompt, earlier attempts, what was delivered. */
  #tokens: number[] = [];
  #hasPromptIds = false;
  #promptTokens = 0;
  #outputIds: number[] = [];
  #outputTokens = 0;
  #text = "";
  #firstMs: number | null = null;
  #lastMs: number;
  #end: End | null = null;
  #checkpointAt: number;

  constructor(deps: IssueDeps, issuer: Issuer, request: RequestWithTerms) {
    this.#deps = deps;
    this.#issuer = issuer;
    this.#request = request;
    this.#requestHash = requestHash(deps.sha256, askedOf(deps.sha256, request));
    this.#trace = new Trace(deps.sha256);
    this.#receivedMs = deps.clock.nowMs();
    this.#startMs = deps.clock.monotonicMs();
    this.#lastMs = this.#startMs;
    const emittedTokens = request.emitted.tokenIds.length;
    this.#checkpointAt = Math.max(checkpointTokens, emittedTokens - (emittedTokens % checkpointTokens));
  }

  get isEnded(): boolean {
    return this.#end !== null;
  }

  /** What delivered nothing and did not end was no service. */
  get isWorthReceipt(): boolean {
    return this.#outputTokens > 0 || this.#text !== "" || this.isEnded;
  }

  /** Also where earlier attempts had their last one: so everybody sees whether both have computed the same. */
  get isCheckpointDue(): boolean {
    return this.#position >= this.#checkpointAt && this.#trace.positions > 0;
  }

  get #position(): number {
    return this.#request.emitted.tokenIds.length + this.#outputTokens;
  }

  /** The event without what only the receipt needs. */
  take(event: GenerateEvent): GenerateEvent {
    if (event.type === "start") return this.#begin(event);
    if (event.type === "tokens") {
      const { rows, ...passed } = event;
      this.#outputTokens += event.tokenCount;
      for (const id of event.tokenIds) this.#outputIds.push(id);
      for (const id of event.tokenIds) this.#tokens.push(id);
      this.#text += event.text;
      this.#lastMs = this.#deps.clock.monotonicMs();
      this.#firstMs ??= this.#lastMs;
      this.#read(rows);
      return passed;
    }
    if (event.type !== "end") return event;
    const { rows, ...passed } = event;
    this.#end = passed;
    this.#promptTokens = event.promptTokens;
    this.#read(rows);
    return passed;
  }

  #begin(event: Extract<GenerateEvent, { type: "start" }>): GenerateEvent {
    const { promptTokenIds, ...passed } = event;
    this.#promptTokens = event.promptTokens;
    this.#hasPromptIds = promptTokenIds !== undefined;
    this.#tokens = [...(promptTokenIds ?? []), ...this.#request.emitted.tokenIds];
    return passed;
  }

  #read(rows: Uint8Array | undefined): void {
    if (rows === undefined) return;
    const from = this.#trace.positions;
    this.#trace.push(this.#tokens.slice(from, from + rows.length / hashBytes), rows);
  }

  async checkpoint(): Promise<GenerateEvent> {
    const { sha256, signer } = this.#deps;
    const position = this.#position - (this.#position % checkpointTokens);
    this.#checkpointAt = position + checkpointTokens;
    // The newest token is not read yet.
    const positions = this.#promptTokens + position - 1;
    const chain = this.#trace.chain(positions);
    const { providerId } = signer;
    const checkpoint = { requestHash: this.#requestHash, providerId, position, positions, chain };
    const { signature } = await signCheckpoint(sha256, signer, checkpoint);
    return { type: "checkpoint", position, positions, chain, signature };
  }

  /** @param cut how it ended unless the engine said so */
  async receipt(cut: ReceiptFinish): Promise<GenerateEvent> {
    const { sha256, signer, chain } = this.#deps;
    const signed = await chain.append(({ sequence, previous }) =>
      signReceipt(sha256, signer, {
        ...this.#content(this.#end?.finishReason ?? cut),
        providerId: signer.providerId,
        sequence,
        previousReceipt: previous,
      }),
    );
    return { type: "receipt", encoded: encodeReceipt(signed) };
  }

  #content(finish: ReceiptFinish): Omit<Receipt, "providerId" | "sequence" | "previousReceipt"> {
    const { sha256 } = this.#deps;
    const { terms, modelId, sampling, emitted } = this.#request;
    // Engines without token ids learn the count at the end.
    const total = this.#end?.outputTokens ?? this.#position;
    const outputTokens = Math.max(0, total - emitted.tokenIds.length);
    const hasIds = this.#outputIds.length === outputTokens;
    const durationMs = this.#durationMs();
    const inputTokens = terms.chargesPrompt ? this.#promptTokens : 0;
    return {
      tier: terms.tier,
      requestHash: this.#requestHash,
      modelId,
      opsHash: this.#issuer.opsHash,
      engine: this.#issuer.engine,
      promptTokens: this.#promptTokens,
      promptTokensHash: this.#hasPromptIds
        ? tokensHash(sha256, this.#tokens.slice(0, this.#promptTokens))
        : null,
      startPosition: emitted.tokenIds.length,
      outputTokens,
      outputTokensHash: hasIds ? tokensHash(sha256, this.#outputIds) : null,
      outputTextHash: textHash(sha256, this.#text),
      finish,
      seed: sampling.seed,
      seedProof: new Uint8Array(0),
      execution: this.#trace.positions === 0 ? null : this.#trace.execution(),
      durationMs,
      fee: fee(terms.price, { inputTokens, outputTokens, durationMs }),
      ...this.#times(),
      evidence: noEvidence,
    };
  }

  /** Nobody pays for what was emitted elsewhere and is read again here. */
  #durationMs(): number {
    const isContinuation = this.#request.emitted.tokenIds.length > 0 || this.#request.emitted.text !== "";
    if (this.#end !== null) {
      const { decodeMs, prefillMs } = this.#end.timings;
      return Math.round(decodeMs + (isContinuation ? 0 : prefillMs));
    }
    return Math.max(0, Math.floor(this.#lastMs - (this.#firstMs ?? this.#lastMs)));
  }

  #times(): Pick<Receipt, "receivedMs" | "firstMs" | "lastMs"> {
    const at = (ms: number): number => Math.round(this.#receivedMs + ms - this.#startMs);
    return {
      receivedMs: Math.round(this.#receivedMs),
      firstMs: at(this.#firstMs ?? this.#lastMs),
      lastMs: at(this.#lastMs),
    };
  }
}
