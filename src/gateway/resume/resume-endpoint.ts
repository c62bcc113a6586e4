/** The HTTP side of going on with an answer: who may, from where. */
import type { Asker } from "../http/app.ts";
import type { CompleteDeps } from "../answers/complete.ts";
import { notKept } from "./journal.ts";
import { recordedResponse } from "./recorded-response.ts";
import { wrongEventId } from "../search/refusals.ts";
import { restoreAnswer } from "./restore-answer.ts";

/** GET /v1/requests/{id}/events */
export async function resumeAnswer(
  deps: CompleteDeps,
  http: Request,
  id: string,
  { owner }: Asker,
): Promise<Response> {
  const requestId = plainId(id);
  const after = lastEvent(http, requestId);
  const { streams } = deps;
  // Another connection may be about to take it up.
  for (let other; (other = streams.restoring.get(requestId)) !== undefined;) await other;
  const recording = streams.find(requestId, owner);
  if (recording !== null) {
    const events = recording.read(after === null ? null : `${requestId}:${after}`);
    return recordedResponse(deps.clock, recording, http, events);
  }
  const restoring = restoreAnswer(deps, { requestId, owner }, after);
  const settled = restoring.catch(() => undefined).then(() => streams.restoring.delete(requestId));
  streams.restoring.set(requestId, settled);
  const restored = await restoring;
  if (restored === null) throw notKept(id);
  return recordedResponse(deps.clock, restored, http, restored.readOn());
}

/** DELETE /v1/requests/{id}/events */
export async function cancelAnswer(deps: CompleteDeps, id: string, { owner }: Asker): Promise<Response> {
  const recording = deps.streams.find(plainId(id), owner);
  if (recording !== null) recording.cancel();
  else if ((await deps.journals.find(plainId(id), owner)) === null) throw notKept(id);
  else await deps.journals.delete(plainId(id));
  return new Response(null, { status: 204 });
}

/** As in `x-request-id`, in the `id` of chunks, or bare. */
export function plainId(id: string): string {
  return id.replace(/^(?:req_|chatcmpl-|cmpl-)/, "");
}

/** What stands behind the colon of the last event's id; null: the client has nothing. @throws SkeinError `invalid_request` */
function lastEvent(http: Request, id: string): string | null {
  const given = http.headers.get("last-event-id");
  if (given === null || given === "") return null;
  const [, of, cursor] = /^(?:(.+):)?(\d[\d.]*)$/.exec(given.trim()) ?? [];
  if (cursor !== undefined && (of === undefined || of === id)) return cursor;
  throw wrongEventId(id);
}
