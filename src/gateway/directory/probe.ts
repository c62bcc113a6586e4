import type { ProviderSession } from "../../network/session.ts";
import { greedySampling } from "../../protocol/generate.ts";
import type { ModelOffer } from "../../protocol/offer.ts";
import { SkeinError, toSkeinError } from "../../util/errors.ts";
import type { GatewayDeps } from "../options.ts";

/** The first token after loading can be slow: weights are read from disk only when they are needed. */
const probeTimeoutMs = 30_000;

/**
 * Asks for one real token. Resolves with the milliseconds it took; null when the provider is full: a
 * healthy one that others keep busy.
 *
 * @throws what went wrong
 */
export async function probe(
  { clock }: Pick<GatewayDeps, "clock">,
  session: ProviderSession,
  { modelId, parallelMax }: ModelOffer,
): Promise<number | null> {
  const abort = new AbortController();
  const cancel = clock.schedule(probeTimeoutMs, () =>
    abort.abort(new SkeinError("provider_stalled", `The probe was not answered in ${probeTimeoutMs} ms.`)),
  );
  const startMs = clock.monotonicMs();
  let started = false;
  try {
    const request = {
      requestId: "probe",
      modelId,
      prompt: { kind: "text", text: "Hello" },
      emitted: { tokenIds: [], text: "" },
      sampling: greedySampling,
      stop: [],
      constraint: null,
      logprobs: null,
      outputTokensMax: 1,
      timeoutMs: probeTimeoutMs,
    } as const;
    let endMs: number | null = null;
    await session.generate(request, abort.signal, (event) => {
      started = true;
      if (event.type === "end") endMs = clock.monotonicMs();
      return undefined;
    });
    if (endMs === null) throw new SkeinError("provider_failed", "The probe's answer had no end.");
    return endMs - startMs;
  } catch (error) {
    const isFull = session.status.active >= parallelMax;
    if (toSkeinError(error).code === "overloaded" || (abort.signal.aborted && !started && isFull))
      return null;
    throw error;
  } finally {
    cancel();
  }
}
