/** What a batch can ask for: the one table of it. */
import type { Random } from "../../util/random.ts";
import { type CompletionRequest, parseChatRequest, parseTextRequest } from "../parse-request.ts";

type Parse = (body: Record<string, unknown>, random: Random) => CompletionRequest;

export const batchEndpoints: Readonly<Record<string, Parse>> = {
  "/v1/chat/completions": parseChatRequest,
  "/v1/completions": parseTextRequest,
};
