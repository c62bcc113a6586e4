/** A receipt confirmed where there is no Node: checks, then the whole computation again. */
import { portableSha256 } from "../../../src/exact/commitment/portable-sha256.ts";
import { samplerParameters } from "../../../src/exact/sampler/parameters.ts";
import { optionsOf } from "../../../src/receipt/asked.ts";
import { checkDocument } from "../../../src/receipt/check-document.ts";
import { parseDocument, type ReceiptDocumentView } from "../../../src/receipt/document.ts";
import { type Fault, replayAnswer } from "../../../src/receipt/replay.ts";
import { load } from "./answers.ts";

export interface Confirmed {
  /** Names of the checks that failed. */
  readonly problems: readonly string[];
  /** That were computed. */
  readonly positions: number;
  readonly fault: Fault | null;
}

/** The first part of the first choice, whose prompt is a text. */
export async function confirm(view: ReceiptDocumentView, container: Uint8Array): Promise<Confirmed> {
  const document = parseDocument(view);
  const checks = await checkDocument(portableSha256, document);
  const problems = checks.flatMap(({ name, problem }) => (problem === null ? [] : [name]));
  const { executor, tokenizer } = await load(container, portableSha256);
  const { prompt, parts } = document.choices[0]!;
  const { asked, tokenIds, receipt } = parts[0]!;
  if (prompt?.kind !== "text") throw new Error("the prompt is not a text");
  const promptTokens = tokenizer.encode(prompt.text, { parseSpecial: false, addSpecial: true });
  const execution = receipt!.receipt.execution!;
  const replay = replayAnswer(
    { sha256: portableSha256, executor },
    {
      promptTokens,
      outputTokens: tokenIds!,
      sampler: samplerParameters({ ...asked.sampling, logitBias: optionsOf(asked).logitBias }),
      isEnd: (token) => tokenizer.isEndOfGeneration(token),
      claims: [execution],
      hasEnd: execution.positions === promptTokens.length + tokenIds!.length,
      known: null,
      mask: null,
    },
  );
  for (;;) {
    const { done, value } = replay.next();
    if (done === true) return { problems, positions: value.positions, fault: value.fault };
  }
}
