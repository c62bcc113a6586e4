/** A recorded answer as a response: what the client lacks, and what follows. */
import type { Clock } from "../../util/clock.ts";
import type { Recording } from "./resumable-streams.ts";
import { sseResponse } from "../http/sse.ts";

/** A request with this header (any value but `false` and `0`) may be gone on with. */
const resumeHeader = "x-skein-resume";

export function wantsResume(http: Request): boolean {
  const value = http.headers.get(resumeHeader)?.trim().toLowerCase() ?? "false";
  return value !== "false" && value !== "0";
}

export function recordedResponse(
  clock: Clock,
  recording: Recording,
  http: Request,
  events: AsyncIterator<string>,
): Response {
  const onLeave = (): void => void events.return?.();
  if (http.signal.aborted) onLeave();
  http.signal.addEventListener("abort", onLeave, { once: true });
  return sseResponse(clock, events, new AbortController(), {
    "x-request-id": `req_${recording.id}`,
    // Without a record on the disk it ends with this process.
    [resumeHeader]: recording.survives ? "true" : "until-restart",
  });
}
