/** Computes an answer of the exact tier again: every number that was committed to, and every choice of a token. */
import { equalBytes, merkleRoot, type Sha256 } from "../exact/commitment/commitment.ts";
import { findFirstDifference, type KnownRows, type RowPart } from "../exact/commitment/difference.ts";
import type { Executor } from "../exact/executor.ts";
import { replayRows } from "../exact/replay.ts";
import { type SamplerParameters, sampleToken } from "../exact/sampler/sampler.ts";

/** What was signed of the first positions of an answer. */
export interface Claim {
  readonly positions: number;
  readonly chain: Uint8Array;
  /** Null: a checkpoint's. */
  readonly root: Uint8Array | null;
}

/** Which tokens may come next: one bit each, in words of 32; null where the answer is complete. */
export interface Mask {
  allowed(): Int32Array | null;
  advance(tokenId: number): void;
}

export interface ClaimedAnswer {
  readonly promptTokens: readonly number[];
  readonly outputTokens: readonly number[];
  readonly sampler: SamplerParameters;
  /** What the request's constraint allows, at the answer's beginning; null: it has none. */
  readonly mask: Mask | null;
  /** Whether a token ends an answer of this model. */
  readonly isEnd: (tokenId: number) => boolean;
  readonly claims: readonly Claim[];
  /** Whether the model itself ended it: the token that says so is drawn, but not delivered. */
  readonly hasEnd: boolean;
  /** Rows, and leaves of some, that the provider says it had; null: unknown. */
  readonly known: KnownRows | null;
}

export type Fault =
  /** From the logits follows another choice than `claimed` (null: the end) at this place in the answer, from 0. */
  | {
      readonly kind: "token";
      readonly position: number;
      readonly claimed: number | null;
      readonly drawn: number;
    }
  /**
   * Other numbers were computed: first at `position` of prompt and answer together, in `part` (null: leaves are not known); without
   * rows all that is known is that it is at one of the positions from `position` to `lastPosition`.
   */
  | {
      readonly kind: "numbers";
      readonly position: number;
      readonly lastPosition: number;
      readonly part: RowPart | null;
    };

export interface ReplayReport {
  /** That were computed. */
  readonly positions: number;
  /** The first one in the order of positions; null: everything is as it was signed. */
  readonly fault: Fault | null;
  /** Hashes of those rows: what was computed. */
  readonly rows: readonly Uint8Array[];
}

/**
 * Yields after each position how many are done.
 * @throws SkeinError `invalid_request` for what cannot be computed at all, `context_length_exceeded`, `overloaded`
 */
export function* replayAnswer(
  { sha256, executor }: { readonly sha256: Sha256; readonly executor: Executor },
  answer: ClaimedAnswer,
): Generator<number, ReplayReport> {
  const { promptTokens, claims } = answer;
  const positions = Math.max(...claims.map((claim) => claim.positions));
  const tokens = [...promptTokens, ...answer.outputTokens].slice(0, positions);
  const draws = new Draws(answer);
  const claimed = new Claims(sha256, claims);
  const rows: Uint8Array[] = [];
  const leaves: (readonly Uint8Array[])[] = [];
  let done = 0;
  const replayed = replayRows([executor], { sha256, tokens, promptLength: promptTokens.length });
  for (const row of replayed) {
    rows.push(row.row);
    if (answer.known !== null) leaves.push(row.leaves);
    const wrongNumbers = claimed.fault(rows, row.chain);
    // A wrong number comes before the choice that follows from it.
    const fault = wrongNumbers ?? (row.logits === null ? null : draws.fault(row.position, row.logits));
    if (fault !== null) {
      replayed.return?.(undefined as never);
      return { positions: rows.length, fault: located(fault, answer.known, { rows, leaves }), rows };
    }
    yield ++done;
  }
  return { positions: rows.length, fault: null, rows };
}

/** Compares what was signed with what is computed, as soon as enough of it is there. */
class Claims {
  readonly #sha256: Sha256;
  readonly #claims: readonly Claim[];
  #right = 0;

  constructor(sha256: Sha256, claims: readonly Claim[]) {
    this.#sha256 = sha256;
    this.#claims = claims;
  }

  fault(rows: readonly Uint8Array[], chain: Uint8Array): Fault | null {
    for (const claim of this.#claims) {
      if (claim.positions !== rows.length) continue;
      const isRoot = claim.root === null || equalBytes(claim.root, merkleRoot(this.#sha256, rows));
      if (isRoot && equalBytes(claim.chain, chain)) this.#right = claim.positions;
      else return { kind: "numbers", position: this.#right, lastPosition: claim.positions - 1, part: null };
    }
    return null;
  }
}

/** Draws every token of the answer again. */
class Draws {
  readonly #answer: ClaimedAnswer;
  readonly #counts = new Map<number, number>();

  constructor(answer: ClaimedAnswer) {
    this.#answer = answer;
  }

  /** @param logits behind this position of prompt and answer together */
  fault(position: number, logits: Int32Array): Fault | null {
    const { promptTokens, outputTokens, sampler, mask, isEnd, hasEnd } = this.#answer;
    const place = position - promptTokens.length + 1;
    const claimed = outputTokens[place] ?? null;
    // Cut off before the next one was chosen.
    if (claimed === null && !hasEnd) return null;
    const allowed = mask?.allowed() ?? null;
    // Complete without another draw.
    if (mask !== null && allowed === null && claimed === null) return null;
    const drawn = sampleToken(logits, sampler, this.#counts, place, allowed);
    const isOver = mask !== null && allowed === null;
    if (isOver) return { kind: "token", position: place, claimed, drawn };
    const isRight = claimed === null ? isEnd(drawn) : drawn === claimed && !isEnd(claimed);
    if (!isRight) return { kind: "token", position: place, claimed, drawn };
    if (claimed !== null) this.#take(claimed);
    return null;
  }

  #take(tokenId: number): void {
    this.#counts.set(tokenId, (this.#counts.get(tokenId) ?? 0) + 1);
    this.#answer.mask?.advance(tokenId);
  }
}

/** Names the very first position and layer, if the other side's rows are known: what a wrong choice came from, where it was wrong numbers. */
function located(fault: Fault, known: KnownRows | null, own: KnownRows): Fault {
  if (known === null) return fault;
  const length = fault.kind === "token" ? own.rows.length : fault.lastPosition + 1;
  const theirs = { rows: known.rows.slice(0, length), leaves: known.leaves ?? [] };
  const first = findFirstDifference(own, theirs);
  if (first === null) return fault;
  return { kind: "numbers", position: first.position, lastPosition: first.position, part: first.part };
}
