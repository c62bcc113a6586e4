/** What became of each line: one record per line, so that a line is in the output once, whatever happens. */
import type { Change, Store } from "../../store/port.ts";
import type { SkeinError } from "../../util/errors.ts";
import { errorObject } from "../answers/format.ts";
import { eachJson, getJson, putJson } from "../kept/records.ts";
import { type Consumed, lineKey } from "./batch.ts";

export interface LineResult {
  readonly isAnswer: boolean;
  /** The line of the output or error file, without its `id` and `custom_id`. */
  readonly rest: {
    readonly response: { readonly body?: object } | null;
    readonly error: object | null;
  };
  readonly customId: string | null;
  readonly requestId: string;
  readonly inputTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
  readonly feeAmount: string;
}

const free = { inputTokens: 0, cachedTokens: 0, outputTokens: 0, feeAmount: "0" };

/** A line that was not asked of the network at all. */
export function neverAsked(
  customId: string | null,
  requestId: string,
  error: { code: string; message: string; param: string | null; line: number | null },
): LineResult {
  return { isAnswer: false, rest: { response: null, error }, customId, requestId, ...free };
}

/** A line that the network refused, or gave up. */
export function refused(customId: string, requestId: string, error: SkeinError): LineResult {
  const { status } = error;
  const response = { status_code: status, request_id: `req_${requestId}`, body: errorObject(error) };
  return { isAnswer: false, rest: { response, error: null }, customId, requestId, ...free };
}

export function answered(customId: string, requestId: string, body: object, consumed: Consumed): LineResult {
  const response = { status_code: 200, request_id: `req_${requestId}`, body };
  const { inputTokens, cachedTokens, outputTokens, feeAmount } = consumed;
  return {
    isAnswer: true,
    rest: { response, error: null },
    customId,
    requestId,
    inputTokens,
    cachedTokens,
    outputTokens,
    feeAmount: feeAmount.toString(),
  };
}

/** The same for another line that asked the same: nothing was generated for it, so it costs nothing. */
export function copied(of: LineResult, customId: string, requestId: string): LineResult {
  const { response } = of.rest;
  const { usage } = { usage: null as object | null, ...response?.body };
  const fee = { amount: "0", unit: "nanoUSD", usd: "0" };
  const rest =
    usage === null
      ? of.rest
      : { ...of.rest, response: { ...response, body: { ...response?.body, usage: { ...usage, fee } } } };
  return { ...of, rest, customId, requestId, ...free };
}

export function putResult(batchId: string, number: number, result: LineResult): Change {
  return putJson(lineKey(batchId, number), result);
}

export async function getResult(store: Store, batchId: string, number: number): Promise<LineResult | null> {
  return (await getJson(store, lineKey(batchId, number))) as LineResult | null;
}

/** In order of the lines. */
export async function* eachResult(
  store: Store,
  batchId: string,
): AsyncGenerator<{ number: number; result: LineResult }, void> {
  for await (const { key, value } of eachJson(store, { prefix: `batch-line/${batchId}/` })) {
    yield { number: Number(key.slice(key.lastIndexOf("/") + 1)), result: value as LineResult };
  }
}

/** A line of the output or error file. */
export function fileLine({ requestId, customId, rest }: LineResult): string {
  return `${JSON.stringify({ id: `batch_req_${requestId}`, custom_id: customId, ...rest })}\n`;
}
