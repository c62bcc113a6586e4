/** A gateway's files and batches, for the terminal commands. */
import type { BatchView } from "../protocol/gateway-api.ts";

/** Anything but the transfer of a file. */
const callTimeoutMs = 30_000;
/** A large file over a slow line. */
const transferTimeoutMs = 3600_000;

/** Every call throws SkeinError `connection_failed` when no gateway answers, or what the gateway refused with. */
export interface BatchClient {
  /** @returns the file's id */
  upload(content: Blob, filename: string, signal: AbortSignal): Promise<string>;
  create(
    request: { input_file_id: string; endpoint: string; completion_window: string },
    signal: AbortSignal,
  ): Promise<BatchView>;
  get(id: string, signal: AbortSignal): Promise<BatchView>;
  /** The latest ones. */
  list(signal: AbortSignal): Promise<BatchView[]>;
  cancel(id: string, signal: AbortSignal): Promise<BatchView>;
  content(fileId: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>>;
}

type Call = (path: string, body: object | null, signal: AbortSignal) => Promise<Response>;

export function createBatchClient(call: Call): BatchClient {
  async function json(path: string, body: object | null, signal: AbortSignal): Promise<unknown> {
    const response = await call(path, body, AbortSignal.any([signal, AbortSignal.timeout(callTimeoutMs)]));
    return response.json();
  }
  const at = (id: string): string => `/v1/batches/${encodeURIComponent(id)}`;
  return {
    async upload(content, filename, signal) {
      const form = new FormData();
      form.append("purpose", "batch");
      form.append("file", content, filename);
      const either = AbortSignal.any([signal, AbortSignal.timeout(transferTimeoutMs)]);
      const response = await call("/v1/files", form, either);
      return ((await response.json()) as { id: string }).id;
    },
    create: async (request, signal) => (await json("/v1/batches", request, signal)) as BatchView,
    get: async (id, signal) => (await json(at(id), null, signal)) as BatchView,
    list: async (signal) => ((await json("/v1/batches", null, signal)) as { data: BatchView[] }).data,
    cancel: async (id, signal) => (await json(`${at(id)}/cancel`, {}, signal)) as BatchView,
    async content(fileId, signal) {
      const either = AbortSignal.any([signal, AbortSignal.timeout(transferTimeoutMs)]);
      const response = await call(`/v1/files/${encodeURIComponent(fileId)}/content`, null, either);
      return response.body!;
    },
  };
}
