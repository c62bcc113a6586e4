/** What a batch can ask for: the one table of it. */
import type { ChoiceEnd } from "../answers/answer-choice.ts";
import { completionObject, type Frame } from "../answers/format.ts";
import { answeredObject, responseObject } from "../responses/object.ts";
import { chatRequestOf, conversationOf, parseResponseRequest } from "../responses/parse.ts";
import { SkeinError } from "../../util/errors.ts";
import type { Random } from "../../util/random.ts";
import { type CompletionRequest, parseChatRequest, parseTextRequest } from "../requests/parse-request.ts";

type Body = Record<string, unknown>;

interface BatchEndpoint {
  /** @throws SkeinError `invalid_request`, `unsupported_parameter` */
  parse(body: Body, random: Random): CompletionRequest;
  /** The answer's body. */
  render(body: Body, frame: Frame, ends: readonly ChoiceEnd[]): object;
}

const completions = (parse: BatchEndpoint["parse"]): BatchEndpoint => ({
  parse,
  render: (_, frame, ends) => completionObject(frame, ends),
});

export const batchEndpoints: Readonly<Record<string, BatchEndpoint>> = {
  "/v1/chat/completions": completions(parseChatRequest),
  "/v1/completions": completions(parseTextRequest),
  "/v1/responses": {
    parse(body, random) {
      const request = parseResponseRequest(body);
      for (const param of ["previous_response_id", "background"]) {
        if (body[param] == null || body[param] === false) continue;
        throw new SkeinError("unsupported_parameter", `'${param}' is not supported in batches.`, { param });
      }
      return chatRequestOf(request, conversationOf(request, []), random);
    },
    render(body, frame, ends) {
      // Its answer is in the output file; beside, nothing of it is kept.
      const request = { ...parseResponseRequest(body), isStored: false };
      const response = responseObject(
        `resp_${frame.requestId}`,
        frame.createdMs,
        request,
        frame.request.model,
      );
      return answeredObject(response, frame, ends[0]!, frame.createdMs);
    },
  },
};
