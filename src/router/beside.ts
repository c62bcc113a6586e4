/**
 * How many of a provider's slots batches may use beside somebody who waits. A GPU with room notes nothing of them, a
 * busy processor is slower: nobody knows which it is, so it is learnt from how late first tokens are, with lines of
 * batches beside and without.
 */

/** Weight of the newest first token. */
const smoothing = 0.1;
/** First tokens beside batches before the share changes. */
const samplesPerStep = 12;
/** Later than alone by more than this factor: too much stands beside. */
const latenessRatioMax = 1.2;
/** Also what is tried first: the fewest that can show something. */
const stepUp = 0.125;
/** Below this it is none at all. */
const shareMin = 0.1;
/** First tokens without batches beside before some are tried again: one in a hundred may meet that. */
const samplesBeforeRetry = 400;

export class BesideShare {
  #share: number = stepUp;
  #alone: number | null = null;
  #beside = 0;
  #besideSamples = 0;
  #aloneSamples = 0;

  /** Of all slots, 0 to 1. */
  get share(): number {
    return this.#share;
  }

  /** @param lateness time to first token as a multiple of what was predicted */
  learn(lateness: number, isBeside: boolean): void {
    if (isBeside) this.#learnBeside(lateness);
    else this.#learnAlone(lateness);
  }

  #learnAlone(lateness: number): void {
    this.#alone = this.#alone === null ? lateness : this.#alone + smoothing * (lateness - this.#alone);
    this.#aloneSamples += 1;
    if (this.#share > 0 || this.#aloneSamples < samplesBeforeRetry) return;
    this.#share = stepUp;
    this.#aloneSamples = 0;
  }

  #learnBeside(lateness: number): void {
    this.#beside += lateness;
    this.#besideSamples += 1;
    if (this.#alone === null || this.#besideSamples < samplesPerStep) return;
    const isLate = this.#beside / this.#besideSamples > latenessRatioMax * this.#alone;
    const next = isLate ? this.#share / 2 : Math.min(1, this.#share + stepUp);
    this.#share = next < shareMin ? 0 : next;
    // What stands beside is another number now.
    this.#beside = this.#besideSamples = this.#aloneSamples = 0;
  }
}
