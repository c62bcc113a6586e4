import type { ProviderSession } from "../network/session.ts";
import { greedySampling } from "../protocol/generate.ts";
import { SkeinError } from "../util/errors.ts";
import type { GatewayDeps } from "./options.ts";

/** The first token after loading can be slow: weights are read from disk only when they are needed. */
const probeTimeoutMs = 30_000;

/** Asks for one real token. Resolves with the milliseconds it took. @throws what went wrong */
export async function probe(
  { clock }: Pick<GatewayDeps, "clock">,
  session: ProviderSession,
  modelId: string,
): Promise<number> {
  const abort = new AbortController();
  const cancel = clock.schedule(probeTimeoutMs, () =>
    abort.abort(new SkeinError("provider_stalled", `The probe was not answered in ${probeTimeoutMs} ms.`)),
  );
  const startMs = clock.monotonicMs();
  try {
    const request = {
      requestId: "probe",
      modelId,
      prompt: { kind: "text", text: "Hello" },
      emitted: { tokenIds: [], text: "" },
      sampling: greedySampling,
      stop: [],
      outputTokensMax: 1,
      timeoutMs: probeTimeoutMs,
    } as const;
    for await (const event of session.generate(request, abort.signal)) {
      if (event.type === "end") return clock.monotonicMs() - startMs;
    }
    throw new SkeinError("provider_failed", "The probe's answer had no end.");
  } finally {
    cancel();
  }
}
