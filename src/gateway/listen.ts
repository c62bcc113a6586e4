/** Serves a request handler over HTTP. */
import type { AddressInfo } from "node:net";
import { serve, type ServerType } from "@hono/node-server";
import { SkeinError } from "../util/errors.ts";

/** Requests in progress get this long to finish when the gateway stops. */
const closeTimeoutMs = 3_000;
const closeSweepMs = 50;
/** A client that opens a connection must send its headers within this time. */
const headersTimeoutMs = 20_000;

export interface Listening {
  readonly host: string;
  readonly port: number;
  close(): Promise<void>;
}

/** @throws SkeinError `port_in_use` */
export function listen(
  handler: (request: Request) => Promise<Response>,
  options: { host: string; port: number },
): Promise<Listening> {
  return new Promise((resolve, reject) => {
    const server = serve(
      {
        fetch: handler,
        hostname: options.host,
        port: options.port,
        serverOptions: { headersTimeout: headersTimeoutMs },
      },
      (address: AddressInfo) => {
        server.off("error", onError);
        resolve({ host: options.host, port: address.port, close: () => close(server) });
      },
    );
    const onError = (error: NodeJS.ErrnoException): void => reject(cannotListen(error, options));
    server.once("error", onError);
  });
}

function cannotListen(
  error: NodeJS.ErrnoException,
  { host, port }: { host: string; port: number },
): SkeinError {
  const why = error.code === "EADDRINUSE" ? "another program uses that port" : (error.code ?? error.message);
  return new SkeinError("port_in_use", `Cannot listen on ${host}:${port}: ${why}.`, {
    hint: "Stop the other program, or choose another port with --port.",
    cause: error,
  });
}

function close(server: ServerType): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      if ("closeAllConnections" in server) server.closeAllConnections();
    }, closeTimeoutMs);
    // A connection whose last answer just ended is kept open by its client for the next request.
    const closeIdle = (): void => {
      if ("closeIdleConnections" in server) server.closeIdleConnections();
    };
    const sweep = setInterval(closeIdle, closeSweepMs);
    server.close(() => {
      clearTimeout(timer);
      clearInterval(sweep);
      resolve();
    });
    closeIdle();
  });
}
