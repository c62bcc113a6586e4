/** The official client on a gateway without a socket. */
import OpenAI, { APIError } from "openai";
import type { TestGateway } from "./fixture.suite.ts";

export function clientOf({ gateway }: Pick<TestGateway, "gateway">, apiKey = "key-a"): OpenAI {
  const call = async (input: string | URL | Request, init?: RequestInit): Promise<Response> =>
    gateway.fetch(await arrived(new Request(input, { ...init, duplex: "half" } as RequestInit)));
  return new OpenAI({ baseURL: "http://127.0.0.1:4141/v1", apiKey, maxRetries: 0, fetch: call });
}

/** Whether an error of the client has this status and names this parameter. */
export function failure(status: number, param: string | null): (error: unknown) => boolean {
  return (error) => error instanceof APIError && error.status === status && (error.param ?? null) === param;
}

/** A request as it arrives at a server: its form is bytes (the platform's own stream of one does not bear to be left). */
export async function arrived(request: Request): Promise<Request> {
  if (!request.headers.get("content-type")?.startsWith("multipart/")) return request;
  const { url, method, headers, signal } = request;
  return new Request(url, { method, headers, signal, body: await request.bytes() });
}
