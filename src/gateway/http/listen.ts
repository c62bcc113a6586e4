/** Serves a request handler over HTTP. */
import { ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { createAdaptorServer, type ServerType } from "@hono/node-server";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import { listenError } from "../../util/listen-error.ts";
import { sendSse } from "./sse.ts";

/** Requests in progress get this long to finish when the gateway stops. */
const closeTimeoutMs = 3_000;
const closeSweepMs = 50;
/** A client that opens a connection must send its headers within this time. */
const headersTimeoutMs = 20_000;
/** Connections that the system takes in while this process is busy; beyond them clients try again after seconds. Systems have bounds of their own. */
const connectionsWaitingMax = 4_096;

export interface Listening {
  readonly host: string;
  readonly port: number;
  close(): Promise<void>;
}

/** @throws SkeinError `port_in_use`, `invalid_config` */
export function listen(
  handler: (request: Request) => Promise<Response>,
  options: { host: string; port: number },
): Promise<Listening> {
  return new Promise((resolve, reject) => {
    const server = createAdaptorServer({
      fetch: async (request, { incoming, outgoing }) => {
        const response = await handler(request);
        if (outgoing instanceof ServerResponse && sendSse(response, outgoing)) return RESPONSE_ALREADY_SENT;
        return atOnce(response, incoming.httpVersion);
      },
      hostname: options.host,
      serverOptions: { headersTimeout: headersTimeoutMs },
    });
    server.listen({ host: options.host, port: options.port, backlog: connectionsWaitingMax }, () => {
      server.off("error", onError);
      const { port } = server.address() as AddressInfo;
      resolve({ host: options.host, port, close: () => close(server, () => running) });
    });
    let running = 0;
    server.on("request", (_, response) => {
      running += 1;
      response.once("close", () => (running -= 1));
    });
    const onError = (error: NodeJS.ErrnoException): void => {
      const where = { address: `${options.host}:${options.port}`, portOption: "--port" };
      reject(listenError(error.code ?? error.message, where, error));
    };
    server.once("error", onError);
  });
}

/**
 * The server holds back the head and the first pieces of a body that may turn out to be short, a millisecond or more, to
 * tell its length. Of an event stream the first token is waited for.
 */
function atOnce(response: Response, httpVersion: string): Response {
  const isStream = response.headers.get("content-type")?.startsWith("text/event-stream") === true;
  // HTTP/1.0 ends bodies by closing.
  if (isStream && httpVersion === "1.1") response.headers.set("transfer-encoding", "chunked");
  return response;
}

/** Ends at once when nothing runs, else when what runs has ended or its time is over. */
function close(server: ServerType, running: () => number): Promise<void> {
  return new Promise((resolve) => {
    const hangUp = (): void => {
      if ("closeAllConnections" in server) server.closeAllConnections();
    };
    const timer = setTimeout(hangUp, closeTimeoutMs);
    // Clients keep connections open for a next request, or opened one and never asked.
    const sweep = setInterval(() => {
      if (running() === 0) hangUp();
    }, closeSweepMs);
    server.close(() => {
      clearTimeout(timer);
      clearInterval(sweep);
      resolve();
    });
  });
}
