/**
 * When cheating does not pay. Amounts are in fees of one answer unless said otherwise. Answers are decided on before any
 * audit of the same challenge window is known, so a provider may cheat in many at once; a single proof takes stake and
 * fees in escrow.
 */

export interface Stakes {
  /** g: what one cheated answer saves. */
  readonly gain: number;
  /** R: fee of an answer. */
  readonly fee: number;
  /** p: chance that an answer is audited. */
  readonly auditProbability: number;
  /** d: chance that an audit finds what is wrong; 1 where every bit is compared. */
  readonly detection: number;
  /** r: part of the auditors that look away for this provider. */
  readonly colludingShare: number;
  /** Whether fees stay in escrow for the challenge window and are lost with the stake. */
  readonly escrow: boolean;
}

/** q = p · d · (1 − r): chance that one cheated answer is proved. */
export function proofChance({ auditProbability, detection, colludingShare }: Stakes): number {
  return auditProbability * detection * (1 - colludingShare);
}

/**
 * A stake that makes every way of cheating lose on average.
 *
 * With escrow and fee ≥ gain: S = g/q, whatever the number of open answers. With x = q·f·N (f: share that is cheated) the
 * gain is (g/q)·x and the loss at least (g/q)·(1 + x)·(1 − e^−x), which is never less, because e^x ≥ 1 + x. Without
 * escrow: S = g·N/(1 − (1 − q)^N), which grows with the open answers N.
 */
export function sufficientStake(stakes: Stakes, openAnswers: number): number {
  const q = proofChance(stakes);
  if (q <= 0) return Number.POSITIVE_INFINITY;
  if (stakes.escrow && stakes.fee >= stakes.gain) return stakes.gain / q;
  return (stakes.gain * openAnswers) / chanceOfAny(q, openAnswers);
}

function chanceOfAny(q: number, times: number): number {
  return -Math.expm1(times * Math.log1p(-Math.min(q, 1)));
}

/** Expected profit, against honest work, of cheating in each of N open answers with chance `share`; audits are independent. */
export function cheatingProfit(stakes: Stakes, stake: number, openAnswers: number, share: number): number {
  const caught = chanceOfAny(proofChance(stakes) * share, openAnswers);
  const forfeit = stake + (stakes.escrow ? stakes.fee * openAnswers : 0);
  return stakes.gain * share * openAnswers - caught * forfeit;
}

export interface BestCheat {
  readonly profit: number;
  readonly openAnswers: number;
  readonly share: number;
}

/** The most profitable way to cheat among up to `openAnswersMax` open answers, by trying. */
export function bestCheat(stakes: Stakes, stake: number, openAnswersMax: number): BestCheat {
  let best: BestCheat = { profit: Number.NEGATIVE_INFINITY, openAnswers: 0, share: 0 };
  for (let openAnswers = 1; openAnswers <= openAnswersMax; openAnswers = Math.ceil(openAnswers * 1.15)) {
    for (let percent = 1; percent <= 100; percent++) {
      const profit = cheatingProfit(stakes, stake, openAnswers, percent / 100);
      if (profit > best.profit) best = { profit, openAnswers, share: percent / 100 };
    }
  }
  return best;
}

/** The least stake against which no cheating pays, by trying; to a thousandth of it. */
export function leastStake(stakes: Stakes, openAnswersMax: number): number {
  let low = 0;
  let high = Math.max(1, 2 * sufficientStake(stakes, openAnswersMax));
  if (!Number.isFinite(high)) return high;
  while (high - low > high / 2_000) {
    const middle = (low + high) / 2;
    if (bestCheat(stakes, middle, openAnswersMax).profit > 0) low = middle;
    else high = middle;
  }
  return high;
}

/**
 * Auditing pays `reward`; whoever only says "pass" saves `cost` each time and loses `bond` when a planted fault shows it.
 * The share of planted audits from which on being awake pays more.
 */
export function plantedShareNeeded({ cost, bond }: { readonly cost: number; readonly bond: number }): number {
  return Math.min(1, cost / bond);
}
