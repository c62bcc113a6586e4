/**
 * The least that a gateway of many streams can do: one TLS connection to each machine carries the tokens of all its
 * streams, and each token is written to its client as an event. No routing, no checks, no accounts.
 *
 * A frame is a big-endian u32 stream and a u16 length, then UTF-8 text. Length 0: begin (to the machine), or the end.
 */
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { connect, createServer as createTlsServer, type TLSSocket } from "node:tls";
import { chunksOf, type Stepper } from "./pace.ts";

const headerBytes = 6;
const key = Buffer.alloc(32, 7);
/** A key that both know instead of certificates; the encryption is that of any other TLS connection. */
const secured = { ciphers: "PSK-AES128-GCM-SHA256", maxVersion: "TLSv1.2" } as const;

function frame(stream: number, text: string): Buffer {
  const bytes = Buffer.byteLength(text);
  const whole = Buffer.allocUnsafe(headerBytes + bytes);
  whole.writeUInt32BE(stream, 0);
  whole.writeUInt16BE(bytes, 4);
  whole.write(text, headerBytes);
  return whole;
}

function readFrames(socket: TLSSocket, onFrame: (stream: number, text: string) => void): void {
  let rest: Buffer = Buffer.alloc(0);
  socket.on("data", (piece: Buffer) => {
    const data = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
    let at = 0;
    while (data.length - at >= headerBytes) {
      const end = at + headerBytes + data.readUInt16BE(at + 4);
      if (end > data.length) break;
      onFrame(data.readUInt32BE(at), data.toString("utf8", at + headerBytes, end));
      at = end;
    }
    rest = data.subarray(at);
  });
}

/** A machine: resolves with its port. */
export function serveRawTokens(stepper: Stepper, answerTokens: number): Promise<number> {
  const server = createTlsServer({ ...secured, pskCallback: () => key }, (socket) => {
    socket.setNoDelay(true);
    socket.on("error", () => undefined);
    readFrames(socket, (stream) => void answer(socket, stream, stepper, answerTokens));
  });
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port));
  });
}

async function answer(
  socket: TLSSocket,
  stream: number,
  stepper: Stepper,
  answerTokens: number,
): Promise<void> {
  for (let position = 0; position < answerTokens; position++) {
    if (position > 0) await stepper.next();
    socket.write(frame(stream, "goose "));
  }
  socket.write(frame(stream, ""));
}

/** The door: resolves with its port. */
export async function serveRawGateway(machinePorts: readonly number[]): Promise<number> {
  const open = new Map<number, { response: ServerResponse; text: ReturnType<typeof chunksOf>["text"] }>();
  const machines = machinePorts.map((port) => {
    const credentials = () => ({ psk: key, identity: "bench" });
    const options = { ...secured, pskCallback: credentials, checkServerIdentity: () => undefined };
    const socket = connect({ ...options, host: "127.0.0.1", port });
    socket.setNoDelay(true);
    readFrames(socket, (stream, text) => {
      const { response, text: chunk } = open.get(stream)!;
      if (text !== "") return void response.write(`data: ${chunk(0, { text, logprobs: null })}\n\n`);
      open.delete(stream);
      response.end("data: [DONE]\n\n");
    });
    return socket;
  });
  let last = 0;
  const server = createServer((request, response) => {
    request.on("data", () => undefined);
    request.on("end", () => {
      last += 1;
      response.writeHead(200, { "content-type": "text/event-stream" });
      open.set(last, { response, text: chunksOf(String(last)).text });
      machines[last % machines.length]!.write(frame(last, ""));
    });
  });
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port));
  });
}
