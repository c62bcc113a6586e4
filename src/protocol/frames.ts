/**
 * Frames: what a session's connection carries. One type byte; then, for frames of a stream, its id as a
 * big-endian u32; then canonical CBOR. Token frames, by far the most frequent, have a fixed binary header:
 *
 *     type u8 | stream u32 | position u32 | tokenCount u16 | idCount u16 | ids u32 × idCount | UTF-8 text
 */
import type { ZodType } from "zod";
import { SkeinError } from "../util/errors.ts";
import { utf8 } from "../util/bytes.ts";
import { decodeCbor, encodeCbor } from "./cbor.ts";
import type { Embedded, EmbedRequest } from "./embed.ts";
import type { GenerateRequest, TokenLogprob, Traced, TraceRequest } from "./generate.ts";
import * as messages from "./messages.ts";
import type { ProviderStatus, SignedEnvelope } from "./offer.ts";

/** Frames about the session as a whole. */
export type SessionFrame =
  | { type: "hello"; body: messages.Hello }
  | { type: "proof"; body: messages.Proof }
  | { type: "welcome"; body: messages.Proof }
  | { type: "refused"; body: messages.Reason }
  | { type: "goodbye"; body: messages.Reason }
  | { type: "offer"; body: SignedEnvelope }
  | { type: "status"; body: ProviderStatus }
  | { type: "ping"; body: messages.Ping }
  | { type: "pong"; body: messages.Pong };

/** Frames about one request; `stream` is chosen by the gateway. */
export type StreamFrame =
  | { type: "generate"; stream: number; body: GenerateRequest }
  | { type: "count"; stream: number; body: messages.CountRequest }
  | { type: "credit"; stream: number; body: messages.Credit }
  | { type: "cancel"; stream: number; body: messages.Empty }
  | { type: "start"; stream: number; body: messages.Start }
  | { type: "end"; stream: number; body: messages.End }
  | { type: "error"; stream: number; body: messages.Failure }
  | { type: "counted"; stream: number; body: messages.Counted }
  | { type: "checkpoint"; stream: number; body: messages.CheckpointBody }
  | { type: "receipt"; stream: number; body: messages.ReceiptBody }
  | { type: "trace"; stream: number; body: TraceRequest }
  | { type: "traced"; stream: number; body: Traced }
  | { type: "embed"; stream: number; body: EmbedRequest }
  | { type: "embedded"; stream: number; body: Embedded };

export interface TokensFrame {
  type: "tokens";
  stream: number;
  position: number;
  tokenCount: number;
  tokenIds: number[];
  text: string;
  logprobs?: readonly TokenLogprob[];
}

export type Frame = SessionFrame | StreamFrame | TokensFrame;

interface Kind {
  readonly code: number;
  readonly hasStream: boolean;
  readonly schema: ZodType;
  readonly limits?: { readonly valuesMax: number };
}

const session = (code: number, schema: ZodType): Kind => ({ code, hasStream: false, schema });
const stream = (code: number, schema: ZodType): Kind => ({ code, hasStream: true, schema });
const withPrompt = { limits: { valuesMax: messages.promptValuesMax } };

const kinds: Record<SessionFrame["type"] | StreamFrame["type"], Kind> = {
  hello: session(1, messages.helloSchema),
  proof: session(2, messages.proofSchema),
  welcome: session(3, messages.proofSchema),
  refused: session(4, messages.reasonSchema),
  goodbye: session(5, messages.reasonSchema),
  offer: session(6, messages.envelopeSchema),
  status: session(7, messages.statusSchema),
  ping: session(8, messages.pingSchema),
  pong: session(9, messages.pongSchema),
  generate: { ...stream(16, messages.generateSchema), ...withPrompt },
  count: { ...stream(17, messages.countSchema), ...withPrompt },
  trace: { ...stream(20, messages.traceSchema), ...withPrompt },
  traced: stream(39, messages.tracedSchema),
  embed: { ...stream(21, messages.embedSchema), ...withPrompt },
  embedded: stream(41, messages.embeddedSchema),
  credit: stream(18, messages.creditSchema),
  cancel: stream(19, messages.emptySchema),
  start: stream(32, messages.startSchema),
  end: stream(34, messages.endSchema),
  error: stream(35, messages.failureSchema),
  counted: stream(36, messages.countedSchema),
  checkpoint: stream(37, messages.checkpointSchema),
  receipt: stream(38, messages.receiptSchema),
};
const tokensCode = 33;
const scoredTokens = stream(40, messages.scoredTokensSchema);
const tokensHeaderBytes = 13;
const u16Max = 0xffff;

const byCode = new Map(Object.entries(kinds).map(([type, kind]) => [kind.code, { type, ...kind }]));
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export function encodeFrame(frame: Frame): Uint8Array<ArrayBuffer> {
  if (frame.type === "tokens")
    return frame.logprobs === undefined ? encodeTokens(frame) : encodeScored(frame);
  return encodeBody(kinds[frame.type], "stream" in frame ? frame.stream : null, frame.body);
}

function encodeBody(
  { code, hasStream }: Kind,
  streamId: number | null,
  value: unknown,
): Uint8Array<ArrayBuffer> {
  const body = encodeCbor(value);
  const header = hasStream ? 5 : 1;
  const bytes = new Uint8Array(header + body.length);
  bytes[0] = code;
  if (streamId !== null) new DataView(bytes.buffer).setUint32(1, streamId);
  bytes.set(body, header);
  return bytes;
}

/** @throws SkeinError `protocol_violation` for anything that `encodeFrame` does not produce */
export function decodeFrame(bytes: Uint8Array): Frame {
  const code = bytes[0];
  if (code === tokensCode) return decodeTokens(bytes);
  if (code === scoredTokens.code) return decodeScored(bytes);
  const kind = code === undefined ? undefined : byCode.get(code);
  if (kind === undefined) throw violation(`unknown type ${code}`);
  if (!kind.hasStream) {
    const body = decodeCbor(kind.schema, bytes.subarray(1), `${kind.type} frame`);
    return { type: kind.type, body } as SessionFrame;
  }
  return { type: kind.type, ...decodeStreamBody(kind, kind.type, bytes) } as StreamFrame;
}

function decodeStreamBody(kind: Kind, type: string, bytes: Uint8Array): { stream: number; body: unknown } {
  if (bytes.length < 5) throw violation("shorter than its header");
  const body = decodeCbor(kind.schema, bytes.subarray(5), `${type} frame`, kind.limits);
  return { stream: viewOf(bytes).getUint32(1), body };
}

function encodeScored(frame: TokensFrame): Uint8Array<ArrayBuffer> {
  const { position, tokenCount, tokenIds, text, logprobs } = frame;
  return encodeBody(scoredTokens, frame.stream, { position, tokenCount, tokenIds, text, logprobs });
}

function decodeScored(bytes: Uint8Array): TokensFrame {
  const { stream: streamId, body } = decodeStreamBody(scoredTokens, "tokens", bytes);
  return { type: "tokens", stream: streamId, ...(body as Omit<TokensFrame, "type" | "stream">) };
}

function encodeTokens(frame: TokensFrame): Uint8Array<ArrayBuffer> {
  if (frame.tokenCount > u16Max || frame.tokenIds.length > u16Max) {
    // Written down, the count would silently be another one.
    throw new RangeError(`a frame holds at most ${u16Max} tokens`);
  }
  const text = utf8(frame.text);
  const idsEnd = tokensHeaderBytes + 4 * frame.tokenIds.length;
  const bytes = new Uint8Array(idsEnd + text.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, tokensCode);
  view.setUint32(1, frame.stream);
  view.setUint32(5, frame.position);
  view.setUint16(9, frame.tokenCount);
  view.setUint16(11, frame.tokenIds.length);
  frame.tokenIds.forEach((id, i) => view.setUint32(tokensHeaderBytes + 4 * i, id));
  bytes.set(text, idsEnd);
  return bytes;
}

function decodeTokens(bytes: Uint8Array): TokensFrame {
  if (bytes.length < tokensHeaderBytes) throw violation("shorter than its header");
  const view = viewOf(bytes);
  const idCount = view.getUint16(11);
  const idsEnd = tokensHeaderBytes + 4 * idCount;
  if (bytes.length < idsEnd) throw violation("shorter than its token ids");
  const tokenIds: number[] = [];
  for (let at = tokensHeaderBytes; at < idsEnd; at += 4) tokenIds.push(view.getUint32(at));
  return {
    type: "tokens",
    stream: view.getUint32(1),
    position: view.getUint32(5),
    tokenCount: view.getUint16(9),
    tokenIds,
    text: decodeText(bytes, idsEnd),
  };
}

/** Longer texts are quicker with the platform's decoder, even where they are ASCII. */
const asciiBytesMax = 32;

function decodeText(bytes: Uint8Array, start: number): string {
  const ascii = bytes.length - start <= asciiBytesMax ? asciiText(bytes, start) : null;
  if (ascii !== null) return ascii;
  try {
    return strictUtf8.decode(bytes.subarray(start));
  } catch (error) {
    throw violation("its text is not UTF-8", error);
  }
}

/** Null: it is none. */
function asciiText(bytes: Uint8Array, start: number): string | null {
  let text = "";
  for (let at = start; at < bytes.length; at++) {
    const byte = bytes[at]!;
    if (byte > 0x7f) return null;
    text += String.fromCharCode(byte);
  }
  return text;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function violation(why: string, cause?: unknown): SkeinError {
  return new SkeinError("protocol_violation", `A frame is malformed: ${why}.`, { cause });
}
