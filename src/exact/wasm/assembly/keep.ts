/** Puts keys and values into pages, as attention.ts reads them. */
import { pagePositions } from "./attention";
import { toBlock } from "./vectors";

/**
 * Rounds one head's key and value of one position to blocks of 14 bits, and puts them where `attend` finds them and, for
 * commitments, beside the position's residual vector: all heads' keys, all values, exponents of keys, of values.
 */
export function keepHead(
  key: usize,
  value: usize,
  headDim: usize,
  shown: usize,
  shownExponents: usize,
  shownStride: usize,
  heads: usize,
  pages: usize,
  keys: usize,
  values: usize,
  keyExponents: usize,
  valueExponents: usize,
  position: usize,
): void {
  const page = load<u32>(pages + 4 * (position / pagePositions)) as usize;
  const inPage = position % pagePositions;
  const shownValue = shown + shownStride;
  const keyExponent = toBlock(key, headDim, 14, shown) - 16;
  const valueExponent = toBlock(value, headDim, 14, shownValue) - 16;
  store<i8>(shownExponents, keyExponent as i8);
  store<i8>(shownExponents + heads, valueExponent as i8);
  store<i8>(page + keyExponents + inPage, keyExponent as i8);
  store<i8>(page + valueExponents + inPage, valueExponent as i8);
  memory.copy(page + keys + 2 * headDim * inPage, shown, 2 * headDim);
  const at = page + values + 4 * headDim * (inPage >> 1) + 2 * (inPage & 1);
  for (let i: usize = 0; i < headDim; i++) store<i16>(at + 4 * i, load<i16>(shownValue + 2 * i));
}
