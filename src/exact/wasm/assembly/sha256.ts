/**
 * SHA-256 (FIPS 180-4) of many short messages of one length, four at a time: each lane of a vector belongs to another message. Where a
 * processor has instructions for SHA-256, a call of theirs for each message takes nearly as long.
 */

/** Of a block of 64 bytes: a vector for each of its 16 words and the 48 that follow from them. */
const scheduleBytes: usize = 64 * 16;
/** Rounds make 16 words more than are needed: to stop would take longer. */
const scheduleRoom: usize = scheduleBytes + 16 * 16;
const stateBytes: usize = 8 * 16;
const blockBytes: usize = 64;
const digestBytes: usize = 32;
const lanes: usize = 4;

/** Room for four messages of up to 513 bytes with their padding, and for what is computed of them. */
const messageBytes: usize = 9 * blockBytes;

/**
 * Hashes `count` messages, each of them `tag` and `length` ≤ 512 of the bytes that begin at `from`, one message's after the other's. Digests go to `into`, 32
 * bytes each, rounded up to four of them; that may be where the messages are if these are longer. `constants` are the 64 words of the standard,
 * `scratch` holds 3,712 bytes.
 */
export function hashEach(
  tag: i32,
  from: usize,
  length: usize,
  count: usize,
  into: usize,
  constants: usize,
  scratch: usize,
): void {
  const state = scratch + scheduleRoom;
  const messages = state + stateBytes;
  const blocks = (length + 1 + 8) / blockBytes + 1;
  padAll(messages, tag, length, blocks * blockBytes);
  for (let first: usize = 0; first < count; first += lanes, into += lanes * digestBytes) {
    const some = min(lanes, count - first);
    for (let i: usize = 0; i < some; i++, from += length) {
      memory.copy(messages + i * messageBytes + 1, from, length);
    }
    begin(state);
    for (let block: usize = 0; block < blocks; block++) {
      takeBlock(messages + block * blockBytes, scratch);
      compress(state, scratch, constants);
    }
    putDigests(state, into);
  }
}

/** Everything but the messages themselves: their tag, a one bit behind them, zeros, and their length in bits. */
function padAll(messages: usize, tag: i32, length: usize, bytes: usize): void {
  memory.fill(messages, 0, lanes * messageBytes);
  for (let i: usize = 0; i < lanes; i++, messages += messageBytes) {
    store<u8>(messages, tag as u8);
    store<u8>(messages + 1 + length, 0x80);
    store<u32>(messages + bytes - 4, bswap<u32>((8 * (1 + length)) as u32));
  }
}

/** The hash of nothing so far, in all lanes. */
function begin(state: usize): void {
  v128.store(state, i32x4.splat(0x6a09e667));
  v128.store(state, i32x4.splat(0xbb67ae85), 16);
  v128.store(state, i32x4.splat(0x3c6ef372), 32);
  v128.store(state, i32x4.splat(0xa54ff53a), 48);
  v128.store(state, i32x4.splat(0x510e527f), 64);
  v128.store(state, i32x4.splat(0x9b05688c), 80);
  v128.store(state, i32x4.splat(0x1f83d9ab), 96);
  v128.store(state, i32x4.splat(0x5be0cd19), 112);
}

/** One block of each message as words, the first message's in lane 0. */
function takeBlock(block: usize, schedule: usize): void {
  const end = block + blockBytes;
  for (; block < end; block += 16, schedule += 64) {
    transpose(
      bigEndian(v128.load(block)),
      bigEndian(v128.load(block + messageBytes)),
      bigEndian(v128.load(block + 2 * messageBytes)),
      bigEndian(v128.load(block + 3 * messageBytes)),
      schedule,
      16,
    );
  }
}

function putDigests(state: usize, into: usize): void {
  for (let half: usize = 0; half < digestBytes; half += 16, state += 64) {
    transpose(
      bigEndian(v128.load(state)),
      bigEndian(v128.load(state, 16)),
      bigEndian(v128.load(state, 32)),
      bigEndian(v128.load(state, 48)),
      into + half,
      digestBytes,
    );
  }
}

function bigEndian(words: v128): v128 {
  return v128.swizzle(words, i8x16(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12));
}

/** Word i of each of the four goes to `into` + i · `stride`. */
function transpose(a: v128, b: v128, c: v128, d: v128, into: usize, stride: usize): void {
  const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
  const cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
  const ef = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
  const gh = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
  v128.store(into, v128.shuffle<i64>(ab, cd, 0, 2));
  v128.store(into + stride, v128.shuffle<i64>(ab, cd, 1, 3));
  v128.store(into + 2 * stride, v128.shuffle<i64>(ef, gh, 0, 2));
  v128.store(into + 3 * stride, v128.shuffle<i64>(ef, gh, 1, 3));
}

/**
 * Eight rounds at a time, after which the names mean the same again. Rounds wait for one another, so what is known early is added first, and words
 * of later rounds are made in between.
 */
function compress(state: usize, schedule: usize, constants: usize): void {
  let a = v128.load(state);
  let b = v128.load(state, 16);
  let c = v128.load(state, 32);
  let d = v128.load(state, 48);
  let e = v128.load(state, 64);
  let f = v128.load(state, 80);
  let g = v128.load(state, 96);
  let h = v128.load(state, 112);
  let known: v128;
  let sum: v128;
  const end = schedule + scheduleBytes;
  for (; schedule < end; schedule += 128, constants += 32) {
    known = i32x4.add(addWord(h, schedule, constants), choice(e, f, g));
    sum = highSigma(e);
    h = i32x4.add(i32x4.add(i32x4.add(known, majority(a, b, c)), sum), lowSigma(a));
    d = i32x4.add(i32x4.add(known, d), sum);
    known = i32x4.add(addWord(g, schedule + 16, constants + 4), choice(d, e, f));
    sum = highSigma(d);
    g = i32x4.add(i32x4.add(i32x4.add(known, majority(h, a, b)), sum), lowSigma(h));
    c = i32x4.add(i32x4.add(known, c), sum);
    known = i32x4.add(addWord(f, schedule + 32, constants + 8), choice(c, d, e));
    sum = highSigma(c);
    f = i32x4.add(i32x4.add(i32x4.add(known, majority(g, h, a)), sum), lowSigma(g));
    b = i32x4.add(i32x4.add(known, b), sum);
    known = i32x4.add(addWord(e, schedule + 48, constants + 12), choice(b, c, d));
    sum = highSigma(b);
    e = i32x4.add(i32x4.add(i32x4.add(known, majority(f, g, h)), sum), lowSigma(f));
    a = i32x4.add(i32x4.add(known, a), sum);
    known = i32x4.add(addWord(d, schedule + 64, constants + 16), choice(a, b, c));
    sum = highSigma(a);
    d = i32x4.add(i32x4.add(i32x4.add(known, majority(e, f, g)), sum), lowSigma(e));
    h = i32x4.add(i32x4.add(known, h), sum);
    known = i32x4.add(addWord(c, schedule + 80, constants + 20), choice(h, a, b));
    sum = highSigma(h);
    c = i32x4.add(i32x4.add(i32x4.add(known, majority(d, e, f)), sum), lowSigma(d));
    g = i32x4.add(i32x4.add(known, g), sum);
    known = i32x4.add(addWord(b, schedule + 96, constants + 24), choice(g, h, a));
    sum = highSigma(g);
    b = i32x4.add(i32x4.add(i32x4.add(known, majority(c, d, e)), sum), lowSigma(c));
    f = i32x4.add(i32x4.add(known, f), sum);
    known = i32x4.add(addWord(a, schedule + 112, constants + 28), choice(f, g, h));
    sum = highSigma(f);
    a = i32x4.add(i32x4.add(i32x4.add(known, majority(b, c, d)), sum), lowSigma(b));
    e = i32x4.add(i32x4.add(known, e), sum);
  }
  addTo(state, a);
  addTo(state + 16, b);
  addTo(state + 32, c);
  addTo(state + 48, d);
  addTo(state + 64, e);
  addTo(state + 80, f);
  addTo(state + 96, g);
  addTo(state + 112, h);
}

/** Adds a word and its constant; makes the word that is 16 behind it. */
function addWord(sum: v128, word: usize, constant: usize): v128 {
  const own = v128.load(word);
  const x = v128.load(word, 16);
  const y = v128.load(word, 14 * 16);
  const low = v128.xor(v128.xor(turn(x, 7), turn(x, 18)), i32x4.shr_u(x, 3));
  const high = v128.xor(v128.xor(turn(y, 17), turn(y, 19)), i32x4.shr_u(y, 10));
  v128.store(word, i32x4.add(i32x4.add(own, v128.load(word, 9 * 16)), i32x4.add(low, high)), 256);
  return i32x4.add(sum, i32x4.add(own, v128.load32_splat(constant)));
}

/** Σ1 of the standard. */
function highSigma(e: v128): v128 {
  return v128.xor(v128.xor(turn(e, 6), turn(e, 11)), turn(e, 25));
}

/** Σ0. */
function lowSigma(a: v128): v128 {
  return v128.xor(v128.xor(turn(a, 2), turn(a, 13)), turn(a, 22));
}

/** Ch. */
function choice(e: v128, f: v128, g: v128): v128 {
  return v128.xor(g, v128.and(e, v128.xor(f, g)));
}

/** Maj. */
function majority(a: v128, b: v128, c: v128): v128 {
  return v128.or(v128.and(a, b), v128.and(c, v128.or(a, b)));
}

/** To the right. */
function turn(x: v128, bits: i32): v128 {
  return v128.or(i32x4.shr_u(x, bits), i32x4.shl(x, 32 - bits));
}

function addTo(at: usize, x: v128): void {
  v128.store(at, i32x4.add(v128.load(at), x));
}
