/** Chance as a port: production draws from the operating system, tests and the simulator from a seed. */
export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
  /** `length` random bytes. */
  bytes(length: number): Uint8Array<ArrayBuffer>;
}

/** Asking the system takes several microseconds, however little is asked for. */
const pool = new Uint8Array(4096);
let poolUsed = pool.length;

function systemBytes(length: number): Uint8Array<ArrayBuffer> {
  if (length > pool.length) return crypto.getRandomValues(new Uint8Array(length));
  if (poolUsed + length > pool.length) {
    crypto.getRandomValues(pool);
    poolUsed = 0;
  }
  const end = poolUsed + length;
  const bytes = pool.slice(poolUsed, end);
  // Nobody finds a secret here later.
  pool.fill(0, poolUsed, end);
  poolUsed = end;
  return bytes;
}

export const systemRandom: Random = {
  next: () => new DataView(systemBytes(4).buffer).getUint32(0) / 2 ** 32,
  bytes: systemBytes,
};

/** Deterministic generator (mulberry32 by Tommy Ettinger, public domain); not for secrets. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const nextU32 = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
  return {
    next: () => nextU32() / 2 ** 32,
    bytes: (length) => Uint8Array.from({ length }, () => nextU32() & 0xff),
  };
}
