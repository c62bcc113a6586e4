/** What a batch can ask for: the one table of it. */
import { type Bill, billOf } from "../answers/answer-request.ts";
import { type CompleteDeps, startAnswer } from "../answers/complete.ts";
import { answerEmbeddings } from "../embeddings/index.ts";
import { parseEmbeddings } from "../embeddings/parse.ts";
import type { Asker } from "../http/app.ts";
import type { ChoiceEnd } from "../answers/answer-choice.ts";
import { completionObject, type Frame } from "../answers/format.ts";
import { answeredObject, responseObject } from "../responses/object.ts";
import { chatRequestOf, conversationOf, parseResponseRequest } from "../responses/parse.ts";
import { SkeinError } from "../../util/errors.ts";
import { ignore } from "../../util/sink.ts";
import type { Random } from "../../util/random.ts";
import { type CompletionRequest, parseChatRequest, parseTextRequest } from "../requests/parse-request.ts";

type Body = Record<string, unknown>;

/** What a line asks for. */
export interface LineRequest {
  readonly model: string;
  /**
   * @param as the model that the name stands for, and what share of the price is charged
   * @throws SkeinError
   */
  answer(
    deps: CompleteDeps,
    asker: Asker,
    as: { readonly model: string; readonly feePercent: number },
    abort: AbortController,
  ): Promise<{ readonly body: object; readonly bill: Bill }>;
}

interface BatchEndpoint {
  /** @throws SkeinError `invalid_request`, `unsupported_parameter` */
  parse(body: Body, random: Random): LineRequest;
  /** Whether every line leaves nothing to chance. */
  readonly isDeterministic?: true;
}

/** @param render the answer's body */
function completion(
  request: CompletionRequest,
  render: (frame: Frame, ends: readonly ChoiceEnd[]) => object,
): LineRequest {
  if (request.stream) {
    throw new SkeinError("invalid_request", "A batch does not stream.", { param: "stream" });
  }
  return {
    model: request.model,
    async answer(deps, asker, as, abort) {
      const { frame, run } = startAnswer(deps, { ...request, ...as }, { ...asker, isBatch: true }, abort);
      const ends = await run(ignore);
      return { body: render(frame, ends), bill: billOf(frame.request, ends) };
    },
  };
}

export const batchEndpoints: Readonly<Record<string, BatchEndpoint>> = {
  "/v1/chat/completions": {
    parse: (body, random) => completion(parseChatRequest(body, random), completionObject),
  },
  "/v1/completions": {
    parse: (body, random) => completion(parseTextRequest(body, random), completionObject),
  },
  "/v1/embeddings": {
    isDeterministic: true,
    parse(body) {
      const request = parseEmbeddings(body);
      return {
        model: request.model,
        answer: (deps, asker, as, abort) =>
          answerEmbeddings(deps, { ...request, ...as }, { ...asker, isBatch: true }, abort),
      };
    },
  },
  "/v1/responses": {
    parse(body, random) {
      const given = parseResponseRequest(body);
      for (const param of ["previous_response_id", "background"]) {
        if (body[param] == null || body[param] === false) continue;
        throw new SkeinError("unsupported_parameter", `'${param}' is not supported in batches.`, { param });
      }
      return completion(chatRequestOf(given, conversationOf(given, []), random), (frame, ends) => {
        // Its answer is in the output file; beside, nothing of it is kept.
        const request = { ...given, isStored: false };
        const id = `resp_${frame.requestId}`;
        const response = responseObject(id, frame.createdMs, request, frame.request.model);
        return answeredObject(response, frame, ends[0]!, frame.createdMs);
      });
    },
  },
};
