import type { Store } from "../../store/port.ts";
import { utf8 } from "../../util/bytes.ts";
import { dataKey, dropPiece, type Piece, writingKey } from "./file-store.ts";

/** One record: small enough to pass through memory, large enough that a file has few. */
const recordBytes: number = 1024 * 1024;

/** Writes bytes in order, record by record; they belong to no file until one is made of the piece. */
export class PieceWriter {
  readonly #store: Store;
  readonly #id: string;
  readonly #on: { count: (bytes: number) => void; ended: () => void };
  #parts: Uint8Array[] = [];
  #heldBytes = 0;
  #bytes = 0;
  #records = 0;

  /** @param on `count` hears of bytes before they are kept, and may throw; `ended` is called once */
  constructor(store: Store, id: string, on: { count: (bytes: number) => void; ended: () => void }) {
    this.#store = store;
    this.#id = id;
    this.#on = on;
  }

  /** @throws SkeinError `request_too_large`, `quota_exceeded`, `store_failed` */
  async write(bytes: Uint8Array): Promise<void> {
    this.#on.count(bytes.length);
    this.#bytes += bytes.length;
    for (let rest = bytes; rest.length > 0;) {
      const part = rest.subarray(0, recordBytes - this.#heldBytes);
      // A copy: the caller's buffer may be a window on a much larger one.
      this.#parts.push(part.slice());
      this.#heldBytes += part.length;
      rest = rest.subarray(part.length);
      if (this.#heldBytes === recordBytes) await this.#flush();
    }
  }

  async end(): Promise<Piece> {
    if (this.#heldBytes > 0) await this.#flush();
    this.#on.ended();
    return { id: this.#id, records: this.#records, bytes: this.#bytes };
  }

  /** Gives up: nothing of it remains. */
  async drop(): Promise<void> {
    this.#on.ended();
    this.#parts = [];
    if (this.#records > 0) await this.#store.commit({ changes: dropPiece(this.#id) });
  }

  async #flush(): Promise<void> {
    const value = Buffer.concat(this.#parts);
    this.#parts = [];
    this.#heldBytes = 0;
    const number = this.#records++;
    await this.#store.commit({
      changes: [
        { type: "put", key: dataKey(this.#id, number), value, expiresAtMs: null },
        // A gateway that ends in the middle finds what to delete.
        ...(number === 0
          ? [{ type: "put" as const, key: writingKey(this.#id), value: utf8("null"), expiresAtMs: null }]
          : []),
      ],
    });
  }
}
