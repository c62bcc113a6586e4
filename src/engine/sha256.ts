/** SHA-256 of parts one after the other, as quick as Node can. */
import { createHash, hash } from "node:crypto";

/** Up to here copying is quicker than a hash object. */
const copiedBytesMax = 65_536;

export function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return hash("sha256", parts[0]!, "buffer");
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  if (length <= copiedBytesMax) {
    const bytes = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return hash("sha256", bytes, "buffer");
  }
  const streamed = createHash("sha256");
  for (const part of parts) streamed.update(part);
  return streamed.digest();
}
