/** How often a provider got a request lately, and why not when it did not. */

/** Beyond this many decisions all counts are halved: what happened lately counts. */
const decisionsMax = 2_000;

export class Work {
  chosen = 0;
  passedOver = 0;
  lastChosenMs: number | null = null;
  readonly #reasons = new Map<string, number>();

  /** Most frequent first. */
  get reasons(): [string, number][] {
    return [...this.#reasons].toSorted(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
  }

  gotIt(nowMs: number): void {
    this.chosen += 1;
    this.lastChosenMs = nowMs;
    this.#fade();
  }

  /** @param reason a word of the router's */
  missedIt(reason: string): void {
    this.passedOver += 1;
    this.#reasons.set(reason, (this.#reasons.get(reason) ?? 0) + 1);
    this.#fade();
  }

  #fade(): void {
    if (this.chosen + this.passedOver <= decisionsMax) return;
    this.chosen = Math.floor(this.chosen / 2);
    this.passedOver = Math.floor(this.passedOver / 2);
    for (const [reason, count] of this.#reasons) {
      if (count > 1) this.#reasons.set(reason, Math.floor(count / 2));
      else this.#reasons.delete(reason);
    }
  }
}

/** What a provider can do about the most frequent reason. */
export const advice: Readonly<Record<string, string>> = {
  network: "others are nearer to this gateway: serve a gateway that is near, too (--join)",
  queue: "its slots were taken: more of them, if the machine has room (--parallel)",
  prefill: "others begin sooner: a GPU, a smaller model, or fewer parallel requests",
  pace: "others write faster: a GPU, a smaller model, or fewer parallel requests",
  price: "others are cheaper: lower --price-input, --price-output or --price-second",
  failures: "it failed too often lately: its log says why; its share comes back with answers that succeed",
  trust: "others are trusted more",
  cooling: "it failed lately and is put aside for a while",
  even: "others are as good, and chance decided",
  not_allowed: "requests named other providers",
  denied: "requests excluded it by name",
  other_region: "requests asked for another region (--region)",
  region_doubtful:
    "requests asked for the region that it declares, which its round trip contradicts: check --region, or the line",
  not_private: "requests were private, and its engine passes prompts on to another server (--engine openai)",
  too_expensive: "requests set a lower highest price",
  unable: "requests asked for response_format or logprobs, which its engine has not",
  gives_no_receipts: "requests asked for receipts",
  not_exact: "requests asked for answers that can be computed again (--engine exact)",
  another_replica: "it answered the same request already: replicas go to different providers",
  not_auditable: "requests asked for audits, and the gateway lacks the model (its --audit-model)",
  failed_audit:
    "an audit proved that an answer was not what this model gives: `skein audit list` shows it; check model file and machine",
  too_slow: "requests asked for an earlier first token than it is expected to give",
  full: "it was full: more slots, if the machine has room (--parallel)",
  reserved: "its last slots are kept free for answers that lost their provider (the gateway's headroom)",
  context_too_short: "requests needed a longer context (--context)",
  cannot_continue: "its engine cannot continue what another began",
  tried_already: "it had failed or refused the same request",
};
