/** The HTTP side of going on with an answer: who may, from where. */
import { createHash } from "node:crypto";
import type { Clock } from "../util/clock.ts";
import { SkeinError } from "../util/errors.ts";
import type { Recording, ResumableStreams } from "./resumable-streams.ts";
import { sseBody, sseHeaders } from "./sse.ts";

/** A request with this header (any value but `false` and `0`) may be gone on with. */
const resumeHeader = "x-skein-resume";

export function wantsResume(http: Request): boolean {
  const value = http.headers.get(resumeHeader)?.trim().toLowerCase() ?? "false";
  return value !== "false" && value !== "0";
}

/** Not the key itself: nothing that is kept can give it away. */
export function ownerOf(http: Request): string {
  return createHash("sha256")
    .update(http.headers.get("authorization") ?? "")
    .digest("hex");
}

/** Streams what is kept behind event `after`, and what follows. */
export function recordedResponse(clock: Clock, recording: Recording, http: Request, after: number): Response {
  const events = recording.read(after);
  const onLeave = (): void => void events.return?.();
  if (http.signal.aborted) onLeave();
  http.signal.addEventListener("abort", onLeave, { once: true });
  return new Response(sseBody(clock, events, new AbortController()), {
    headers: { ...sseHeaders, "x-request-id": `req_${recording.id}`, [resumeHeader]: "true" },
  });
}

/** GET /v1/requests/{id}/events */
export function resumeAnswer(clock: Clock, streams: ResumableStreams, http: Request, id: string): Response {
  const recording = streams.find(plainId(id), ownerOf(http));
  return recordedResponse(clock, recording, http, lastEventNumber(http, recording.id));
}

/** DELETE /v1/requests/{id}/events */
export function cancelAnswer(streams: ResumableStreams, http: Request, id: string): Response {
  streams.find(plainId(id), ownerOf(http)).cancel();
  return new Response(null, { status: 204 });
}

/** As in `x-request-id`, in the `id` of chunks, or bare. */
export function plainId(id: string): string {
  return id.replace(/^(?:req_|chatcmpl-|cmpl-)/, "");
}

/** @throws SkeinError `invalid_request` */
function lastEventNumber(http: Request, id: string): number {
  const given = http.headers.get("last-event-id");
  if (given === null || given === "") return -1;
  const [, of, number] = /^(?:(.+):)?(\d{1,15})$/.exec(given.trim()) ?? [];
  if (number !== undefined && (of === undefined || of === id)) return Number(number);
  throw new SkeinError("invalid_request", "'Last-Event-ID' is not one of this answer's.", {
    param: "last-event-id",
    hint: `It looks like ${id}:7, as in the 'id' of the last event that came.`,
  });
}
