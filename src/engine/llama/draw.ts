/**
 * llama.cpp's draw, from outside: one uniform number in the cumulative distribution of the allowed tokens. An auditor
 * needs it to say how far a claimed token is from the one that the request's own draw gives.
 */

const words = 624;
const shift = 397;

/**
 * The number that llama.cpp draws with a sampler seeded with `seed`: the first of C++'s `uniform_real_distribution` over
 * the Mersenne Twister (Matsumoto and Nishimura 1998, MT19937), made of two 32-bit words, the lower first. In [0, 1).
 */
export function uniformOf(seed: number): number {
  // Two outputs need this much of the state.
  const state = new Uint32Array(words);
  state[0] = seed;
  for (let i = 1; i < words; i++) {
    const before = state[i - 1]!;
    state[i] = Math.imul(before ^ (before >>> 30), 1_812_433_253) + i;
  }
  return (twisted(state, 0) + twisted(state, 1) * 2 ** 32) / 2 ** 64;
}

function twisted(state: Uint32Array, index: number): number {
  const mixed = (state[index]! & 0x8000_0000) | (state[index + 1]! & 0x7fff_ffff);
  let word = state[index + shift]! ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908_b0df : 0);
  word ^= word >>> 11;
  word ^= (word << 7) & 0x9d2c_5680;
  word ^= (word << 15) & 0xefc6_0000;
  return (word ^ (word >>> 18)) >>> 0;
}

/** A token that may be drawn, with its logit after penalties and division by the temperature. */
export interface Allowed {
  readonly id: number;
  readonly logit: number;
}

/**
 * How wrong all logits would have to be for a draw to give `claimed`: twice the smallest ε such that logits within ε of
 * these, drawn from with the same number, may give it. 0: these logits give it themselves. For draws with Gumbel noise
 * that is exactly max_j(l_j + G_j) − (l_claimed + G_claimed); this is the same for draws from a cumulative distribution.
 * It errs on the low side where tokens could change places in the order. Infinity: not among the allowed.
 *
 * @param allowed in the order in which they are summed up
 * @param uniform in [0, 1); null: greedy
 * @param isSorted whether that order is by logit, so that errors may change it, and not by id
 */
export function marginOf(
  allowed: readonly Allowed[],
  claimed: number,
  uniform: number | null,
  isSorted: boolean,
): number {
  const at = allowed.findIndex(({ id }) => id === claimed);
  if (at === -1) return Number.POSITIVE_INFINITY;
  const best = allowed.reduce((max, { logit }) => Math.max(max, logit), Number.NEGATIVE_INFINITY);
  if (uniform === null) return best - allowed[at]!.logit;
  const weights = allowed.map(({ logit }) => Math.exp(logit - best));
  const odds = Math.log(uniform) - Math.log1p(-uniform);
  if (!isSorted) return Math.max(0, ...distances(weights, at, at + 1, odds));
  const isEnough = (margin: number): boolean => {
    // Whoever is more than `margin` ahead stays before it; whoever is not more than that behind may come before it.
    const { logit } = allowed[at]!;
    const firm = allowed.findIndex((other) => other.logit <= logit + margin);
    const behind = allowed.findIndex((other) => other.logit < logit - margin);
    const end = behind === -1 ? allowed.length : behind;
    // Where nothing changes places, the order is the one given, also among equals.
    const [from, to] = margin === 0 ? [at, at + 1] : [Math.min(firm, at), Math.max(end, at + 1)];
    return distances(weights, from, to, odds).every((distance) => distance <= margin);
  };
  return isEnough(0) ? 0 : leastEnough(isEnough);
}

/**
 * By how much log-odds have to move down, and up, for the draw to fall between `from` and `to` of the sum. An error of ε
 * in every logit moves the log-odds of any part of the sum by 2ε at most.
 */
function distances(weights: readonly number[], from: number, to: number, odds: number): [number, number] {
  let before = 0;
  let inside = 0;
  let after = 0;
  for (const [i, weight] of weights.entries()) {
    if (i < from) before += weight;
    else if (i < to) inside += weight;
    else after += weight;
  }
  return [Math.log(before / (inside + after)) - odds, odds - Math.log((before + inside) / after)];
}

/** Nats; logits do not differ by more. */
const marginMax = 1_000;
/** Far below what rounding does to logits. */
const marginStep = 1e-6;

function leastEnough(isEnough: (margin: number) => boolean): number {
  let low = 0;
  let high = 1;
  while (!isEnough(high)) {
    if (high > marginMax) return Number.POSITIVE_INFINITY;
    low = high;
    high *= 2;
  }
  while (high - low > marginStep) {
    const middle = (low + high) / 2;
    if (isEnough(middle)) high = middle;
    else low = middle;
  }
  return high;
}
