/** Anthropic's /v1/messages, over the path of every request. */
import { SkeinError } from "../../util/errors.ts";
import { ignore } from "../../util/sink.ts";
import { type App, type Asker, type AskerOf, wrongMethod } from "../http/app.ts";
import { type CompleteDeps, eventsOf, startAnswer } from "../answers/complete.ts";
import { parseBody } from "../requests/parse-body.ts";
import type { CompletionRequest } from "../requests/parse-request.ts";
import { countTokens } from "../requests/quote.ts";
import { sseResponse } from "../http/sse.ts";
import { messageEvents, messageObject } from "./format.ts";
import { messagesPath as path } from "./path.ts";
import { parseCountRequest, parseMessageRequest } from "./parse.ts";

export function mountMessages(app: App, deps: CompleteDeps, askerOf: AskerOf): void {
  const resolved = (request: CompletionRequest, { owner }: Asker): CompletionRequest => ({
    ...request,
    model: deps.access.resolve(owner, request.model),
  });
  app.post(path, async (c) => {
    const given = parseMessageRequest(await parseBody(c.req.raw), deps.random);
    return answer(deps, resolved(given, askerOf(c)), askerOf(c), c.req.raw);
  });
  app.post(`${path}/count_tokens`, async (c) => {
    const given = parseCountRequest(await parseBody(c.req.raw), deps.random);
    const tokens = await countTokens(deps, resolved(given, askerOf(c)), c.req.raw.signal);
    return c.json({ input_tokens: tokens });
  });
  app.all(path, (c) => wrongMethod(c, "POST"));
  app.all(`${path}/count_tokens`, (c) => wrongMethod(c, "POST"));
}

async function answer(
  deps: CompleteDeps,
  request: CompletionRequest,
  asker: Asker,
  http: Request,
): Promise<Response> {
  const abort = new AbortController();
  const started = startAnswer(deps, request, asker, abort);
  const { frame } = started;
  const onLeave = (): void => abort.abort(new SkeinError("cancelled", "The client went away."));
  if (http.signal.aborted) onLeave();
  http.signal.addEventListener("abort", onLeave, { once: true });
  const headers = { "x-request-id": `req_${asker.requestId}`, "request-id": `req_${asker.requestId}` };
  if (!request.stream)
    return Response.json(messageObject(frame, (await started.run(ignore))[0]!), { headers });
  // Nothing is sent before the first token: until then a failure has its own HTTP status.
  const events = eventsOf(started, abort);
  const first = await events.next();
  return sseResponse(deps.clock, messageEvents(frame, first, events), abort, headers);
}
