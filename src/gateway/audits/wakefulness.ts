/**
 * Keeps this gateway's own checker awake: now and then it is given an answer with a fault in it, and one that passes that is not
 * believed any more until it finds the next. Nothing of this is seen outside, and no provider is judged by it.
 */
import { type Planted, plantedFault, wakefulness } from "../../audit/planted.ts";
import { auditShare, shareOne } from "../../audit/selection.ts";
import type { Outcome } from "../../audit/verdict.ts";
import type { Logger } from "../../util/log.ts";
import type { Random } from "../../util/random.ts";
import type { CheckQuestion } from "../../audit/answer-checker.ts";

/** One audit in twenty: lazy auditors lose from two in a hundred on (docs/VERIFICATION.md, "Economics"). */
const plantedShare = auditShare(0.05);
const secretBytes = 32;

interface Facts {
  readonly receiptHash: Uint8Array;
  /** Tokens of the answer in which a fault can be. */
  readonly positions: number;
}

export class Wakefulness {
  readonly #log: Logger;
  readonly #secret: Uint8Array;
  /** Whether it has found the latest fault; null: it was not given any. */
  #isAwake: boolean | null = null;
  #found = 0;
  #passed = 0;

  constructor({ log, random }: { readonly log: Logger; readonly random: Random }) {
    this.#log = log;
    this.#secret = random.bytes(secretBytes);
  }

  get counts(): { readonly found: number; readonly passed: number; readonly isAsleep: boolean } {
    return { found: this.#found, passed: this.#passed, isAsleep: this.#isAwake === false };
  }

  /**
   * Before an audit; the very first one, and all while it sleeps, are preceded by a fault.
   * @param tryFault checks the same answer with the fault in it
   * @returns whether the checker's verdict counts
   */
  async isAwake(
    { receiptHash, positions }: Facts,
    tryFault: (planted: Planted) => Promise<Outcome>,
  ): Promise<boolean> {
    if (positions === 0) return this.#isAwake !== false;
    const share = this.#isAwake === true ? plantedShare : shareOne;
    const planted = await plantedFault(this.#secret, receiptHash, share, positions);
    if (planted !== null) this.#learn(wakefulness(planted, await tryFault(planted)));
    return this.#isAwake !== false;
  }

  #learn(result: ReturnType<typeof wakefulness>): void {
    // One that could not say is as it was.
    if (result === "unable") return;
    this.#isAwake = result !== "asleep";
    if (this.#isAwake) this.#found += 1;
    else {
      this.#passed += 1;
      this.#log.error({}, "this gateway's checker passes answers that are wrong: its verdicts are not used");
    }
  }
}

/** The same answer, with something wrong in it: a token, or the numbers that were signed. */
export function withFault({ choice, part: number }: CheckQuestion, planted: Planted): CheckQuestion {
  const part = choice.parts[number]!;
  const { receipt } = part;
  const changed =
    planted.fault === "token"
      ? { tokenIds: withOtherToken(part.tokenIds!, planted.position) }
      : { receipt: receipt === null ? null : { ...receipt, receipt: withOtherNumbers(receipt.receipt) } };
  const parts = choice.parts.map((each) => (each === part ? { ...part, ...changed } : each));
  return { choice: { ...choice, parts }, part: number };
}

export function withOtherToken(tokenIds: readonly number[], position: number): number[] {
  return tokenIds.map((id, at) => (at === position ? (id === 0 ? 1 : id - 1) : id));
}

type Signed = NonNullable<CheckQuestion["choice"]["parts"][number]["receipt"]>["receipt"];

function withOtherNumbers(receipt: Signed): Signed {
  const { execution } = receipt;
  if (execution === null) return receipt;
  const flipped = (bytes: Uint8Array): Uint8Array => bytes.map((byte, at) => (at === 0 ? byte ^ 1 : byte));
  return {
    ...receipt,
    execution: { ...execution, root: flipped(execution.root), chain: flipped(execution.chain) },
  };
}
