/**
 * The header `idempotency-key`: a request that a client sends again gets the answer of the first one, and is not done
 * twice. Answers are kept for a day, streams not at all.
 */
import { createHash } from "node:crypto";
import type { Context, Next } from "hono";
import type { Store } from "../../store/port.ts";
import type { Clock } from "../../util/clock.ts";
import { SkeinError } from "../../util/errors.ts";
import { requestBodyBytesMax } from "../options.ts";
import { readBytes } from "../requests/parse-body.ts";
import { getJson, ownerPart, putJson } from "../kept/records.ts";

const keptMs: number = 24 * 3600_000;
const keyLengthMax = 255;
/** Larger answers are not kept. */
const answerBytesMax: number = 1024 * 1024;

interface KeptAnswer {
  readonly bodyHash: string;
  readonly status: number;
  readonly body: string;
}

/** What a client sends that comes again is answered once. */
export function createIdempotency(
  { store, clock }: { store: Store; clock: Clock },
  ownerOf: (c: Context) => string,
) {
  const running = new Set<string>();
  return async (c: Context, next: Next): Promise<Response | undefined> => {
    const given = c.req.header("idempotency-key");
    if (given === undefined || c.req.method !== "POST" || !isJson(c)) {
      await next();
      return undefined;
    }
    if (given.length > keyLengthMax)
      throw conflict(`'idempotency-key' is longer than ${keyLengthMax} characters.`);
    const key = `idempotency/${ownerPart(ownerOf(c))}/${hashOf(`${c.req.path}\n${given}`)}`;
    if (running.has(key)) throw conflict("A request with this 'idempotency-key' is being answered.");
    running.add(key);
    try {
      // What is read here is read again by whoever answers.
      const bodyHash = hashOf(await readBytes(c.req.raw.clone()));
      const kept = (await getJson(store, key)) as KeptAnswer | null;
      if (kept !== null && kept.bodyHash !== bodyHash)
        throw conflict("Another request had this 'idempotency-key'.");
      if (kept !== null) return replay(kept);
      await next();
      await keep(c.res, (answer) =>
        store.commit({ changes: [putJson(key, { bodyHash, ...answer }, clock.nowMs() + keptMs)] }),
      );
      return undefined;
    } finally {
      running.delete(key);
    }
  };
}

function isJson(c: Context): boolean {
  const type = c.req.header("content-type") ?? "application/json";
  return type.includes("json") && Number(c.req.header("content-length") ?? 0) <= requestBodyBytesMax;
}

/** Of what went wrong another try is wanted: a provider may have joined meanwhile. */
async function keep(
  response: Response,
  write: (answer: { status: number; body: string }) => Promise<unknown>,
): Promise<void> {
  const { status, headers } = response;
  if (status >= 400 || !headers.get("content-type")?.includes("application/json")) return;
  const body = await response.clone().text();
  if (body.length <= answerBytesMax) await write({ status, body });
}

function replay({ status, body }: KeptAnswer): Response {
  return new Response(body, {
    status,
    headers: { "content-type": "application/json", "idempotent-replayed": "true" },
  });
}

function conflict(message: string): SkeinError {
  return new SkeinError("conflict", message, {
    param: "idempotency-key",
    hint: "Use a key of its own for every request, and the same one only to send it again.",
  });
}

function hashOf(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}
