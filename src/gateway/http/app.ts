/** What the gateway's endpoints share: the kind of app they are mounted on, and how errors look there. */
import type { Context, Hono } from "hono";
import { SkeinError } from "../../util/errors.ts";
import { errorObject } from "../answers/format.ts";
import { messageError } from "../messages/format.ts";
import { isMessagesPath } from "../messages/path.ts";

export type App = Hono<{ Variables: { requestId: string; errorCode: string } }>;

/** Which request it is, and whose. */
export interface Asker {
  readonly requestId: string;
  readonly owner: string;
}

export type AskerOf = (c: Context) => Asker;

/** For whom waiting may help, but nobody knows how long. */
const retryAfterDefaultSeconds = 2;

/** A path that exists, asked with another method. @param allowed such as `GET, DELETE` */
export function wrongMethod(c: Context, allowed: string): Response {
  c.header("allow", allowed);
  const { path, method } = c.req;
  return errorResponse(
    c,
    new SkeinError("method_not_allowed", `${path.slice(0, 200)} does not take ${method}.`, {
      hint: `Send a ${allowed.replaceAll(", ", " or ")} request.`,
    }),
  );
}

export function unknownPath(c: Context): SkeinError {
  return new SkeinError("not_found", `There is nothing at ${c.req.method} ${c.req.path.slice(0, 200)}.`, {
    hint: "The endpoints are listed in docs/API.md.",
  });
}

export function errorResponse(c: Context, error: SkeinError): Response {
  c.set("errorCode", error.code);
  const headers: Record<string, string> = [429, 503].includes(error.status)
    ? { "retry-after": String(error.retryAfterSeconds ?? retryAfterDefaultSeconds) }
    : {};
  const body = isMessagesPath(c.req.path)
    ? messageError(error, c.get("requestId") as string)
    : errorObject(error);
  // Hono's type lists the statuses it knows; 499 (client left) is not among them, and nobody reads it.
  return c.json(body, (error.status === 499 ? 400 : error.status) as 400, headers);
}
