/** Providers of the float tier that do not do what was asked: what an audit by margins is to find. */
import type { Engine } from "../../src/engine/port.ts";
import type { GenerateRequest, Sampling } from "../../src/protocol/generate.ts";
import { claimedAnswer, type ClaimedAnswer } from "../../src/audit/honest-streams.ts";
import type { Random } from "../../src/util/random.ts";
import type { LlamaModel } from "./llama-logits.ts";

export type Answerer = (request: GenerateRequest) => Promise<ClaimedAnswer>;

const never = new AbortController().signal;

/** Another model answers. */
export function byAnother(engine: Pick<Engine, "generate">): Answerer {
  return (request) => claimedAnswer(engine, request, never);
}

/** The right model draws otherwise. */
export function drawnOtherwise(
  engine: Pick<Engine, "generate">,
  change: (sampling: Sampling) => Partial<Sampling>,
): Answerer {
  return ({ sampling, ...request }) =>
    claimedAnswer(engine, { ...request, sampling: { ...sampling, ...change(sampling) } }, never);
}

/**
 * The right model's answer, in which some tokens are replaced by the more likely of the two most likely others, and
 * which goes on from there as if nothing had happened. Requests must have token ids for a prompt.
 */
export function withSwaps(
  engine: Pick<Engine, "generate">,
  logits: LlamaModel,
  share: number,
  random: Random,
): Answerer {
  return async (request) => {
    if (request.prompt.kind !== "tokens") throw new TypeError("swaps need token ids for a prompt");
    let answer = await claimedAnswer(engine, request, never);
    for (let at = 0; at < answer.tokenIds.length; at++) {
      if (random.next() >= share) continue;
      const before = answer.tokenIds.slice(0, at);
      const rows = await logits.logits([...request.prompt.tokenIds, ...before]);
      const swapped = runnerUp(rows, request.prompt.tokenIds.length + at, answer.tokenIds[at]!);
      const emitted = { tokenIds: [...before, swapped], text: "" };
      const rest = await claimedAnswer(engine, { ...request, emitted }, never);
      answer = { ...rest, tokenIds: [...emitted.tokenIds, ...rest.tokenIds] };
    }
    return answer;
  };
}

/** The most likely token behind the last of `positions` that is not `instead`. */
function runnerUp(rows: Float32Array, positions: number, instead: number): number {
  const size = rows.length / positions;
  const last = rows.subarray(rows.length - size);
  let best = -1;
  for (let id = 0; id < size; id++) {
    if (id !== instead && (best === -1 || last[id]! > last[best]!)) best = id;
  }
  return best;
}
