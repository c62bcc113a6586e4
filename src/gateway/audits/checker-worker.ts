/** The thread that computes answers again: keeps the model of the latest question loaded. */
import { parentPort } from "node:worker_threads";
import { type LoadedModel, loadModel } from "../../engine/exact/load.ts";
import { toSkeinError } from "../../util/errors.ts";
import { checkPart, positionsOf } from "../../audit/loaded-checker.ts";
import type { FromChecker, ToChecker } from "./checker-messages.ts";
import type { CheckedPart } from "../../audit/answer-checker.ts";

const port = parentPort!;
/** Answers of this length have room without loading the model again. */
const contextTokensMin = 512;
let loaded: LoadedModel | null = null;

async function check({ modelPath, modelId, question }: ToChecker): Promise<CheckedPart> {
  const positions = positionsOf(question);
  if (loaded?.facts.modelId !== modelId || loaded.facts.contextTokensMax < positions) {
    loaded = null;
    const wishes = { parallel: 1, contextTokens: Math.max(contextTokensMin, positions), threads: 1 };
    loaded = await loadModel({ modelPath, modelId, ...wishes }, () => undefined);
  }
  return checkPart(loaded, question);
}

port.on("message", (message: ToChecker) => {
  check(message)
    .catch((error: unknown): CheckedPart => ({
      kind: "unable",
      why: "model not here",
      detail: toSkeinError(error).message,
    }))
    .then((checked) => port.postMessage({ id: message.id, checked } satisfies FromChecker))
    .catch((error: unknown) => {
      throw error;
    });
});
