/** First bytes of what is hashed (docs/EXACT.md, "Commitments") and sizes: nothing of one kind can be taken for another. */

export const hashBytes = 32;
/** Bytes of a chunk of weights: small enough for a contract to be shown one. */
export const weightChunkBytes = 512;

export const logitsTag = 0x02;
export const tokenTag = 0x03;
export const chainTag = 0x04;
/** Chunks of weights. */
export const chunkTag = 0x10;
/** Inner nodes of Merkle trees (RFC 6962, section 2.1). */
export const nodeTag = 0x11;
