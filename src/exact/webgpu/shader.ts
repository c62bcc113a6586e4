/**
 * `linear` of docs/EXACT.md in 32-bit integers, for GPUs. A workgroup computes four rows for one block; 32 lanes share a row, so that
 * the longest row (65,536 columns) gives each lane 2,048 products, which fit 31 bits. Wider values are pairs of words.
 */
export const lanes = 32;
export const tileRows = 4;

export const linearShader: string = /* wgsl */ `
struct Params {
  rows: u32,
  /** Columns in sixteens. */
  columns: u32,
  fraction: i32,
  /** Results lie within plus and minus this. */
  max: i32,
}

@group(0) @binding(0) var<uniform> params: Params;
/** Sixteen weights each, row by row. */
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
/** Of each row: multiplier, exponent, bias. */
@group(0) @binding(2) var<storage, read> factors: array<vec4<i32>>;
/** Eight mantissas each, block after block. */
@group(0) @binding(3) var<storage, read> mantissas: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> exponents: array<i32>;
@group(0) @binding(5) var<storage, read_write> results: array<i32>;

const lanes = ${lanes}u;
const tileRows = ${tileRows}u;

/** Sums of lanes in halves: times 2^16, and the rest, which is not negative. */
var<workgroup> sums: array<vec2<i32>, lanes * tileRows>;

@compute @workgroup_size(lanes, tileRows)
fn linear(
  @builtin(local_invocation_id) local: vec3<u32>,
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
  let slot = local.y * lanes + local.x;
  let block = group.y;
  for (var tile = group.x * tileRows; tile < params.rows; tile += groups.x * tileRows) {
    let row = tile + local.y;
    var sum = 0i;
    if (row < params.rows) {
      for (var column = local.x; column < params.columns; column += lanes) {
        let at = 2u * (block * params.columns + column);
        sum += dot16(weights[row * params.columns + column], mantissas[at], mantissas[at + 1u]);
      }
    }
    sums[slot] = vec2(sum >> 16u, sum & 0xffff);
    workgroupBarrier();
    for (var half = lanes / 2u; half > 0u; half /= 2u) {
      if (local.x < half) {
        sums[slot] += sums[slot + half];
      }
      workgroupBarrier();
    }
    if (local.x == 0u && row < params.rows) {
      results[block * params.rows + row] = finish(sums[slot], factors[row], exponents[block]);
    }
    // The next tile overwrites the sums.
    workgroupBarrier();
  }
}

fn dot16(w: vec4<u32>, low: vec4<u32>, high: vec4<u32>) -> i32 {
  return dot4(w.x, low.x, low.y) + dot4(w.y, low.z, low.w) + dot4(w.z, high.x, high.y) + dot4(w.w, high.z, high.w);
}

/** Four weights of 8 bits times two pairs of 16. */
fn dot4(weights: u32, first: u32, second: u32) -> i32 {
  let w = bitcast<i32>(weights);
  let a = bitcast<i32>(first);
  let b = bitcast<i32>(second);
  return extractBits(w, 0u, 8u) * extractBits(a, 0u, 16u) + extractBits(w, 8u, 8u) * (a >> 16u)
    + extractBits(w, 16u, 8u) * extractBits(b, 0u, 16u) + (w >> 24u) * (b >> 16u);
}

/** high * 2^32 + low */
struct Wide {
  high: i32,
  low: u32,
}

/** From the sum of products to a fixed-point number. */
fn finish(sum: vec2<i32>, factor: vec4<i32>, exponent: i32) -> i32 {
  // 1. The sum in 16-bit limbs, of which the highest one has the sign.
  let upper = sum.x + (sum.y >> 16u);
  let limbs = vec2(u32(sum.y & 0xffff), u32(upper & 0xffff));
  // 2. Times the multiplier, below 2^15.
  let multiplier = u32(factor.x);
  let first = limbs.x * multiplier;
  let second = limbs.y * multiplier + (first >> 16u);
  let product = Wide((upper >> 16u) * factor.x + i32(second >> 16u), (second << 16u) | (first & 0xffffu));
  // 3. To the format of the result.
  return addBias(scaleTo(product, -(factor.y + exponent + params.fraction)), factor.z);
}

fn scaleTo(v: Wide, shift: i32) -> i32 {
  if (shift > 52) {
    return 0;
  }
  if (shift < 1) {
    return saturate31(shiftLeft(v, u32(min(-shift, 31))));
  }
  return saturate31(shiftRight(addHalf(v, u32(shift - 1)), u32(shift)));
}

/** v + 2^at */
fn addHalf(v: Wide, at: u32) -> Wide {
  if (at >= 32u) {
    return Wide(v.high + i32(1u << (at - 32u)), v.low);
  }
  let low = v.low + (1u << at);
  return Wide(v.high + select(0, 1, low < v.low), low);
}

/** 1 <= by <= 52 */
fn shiftRight(v: Wide, by: u32) -> Wide {
  if (by >= 32u) {
    return Wide(v.high >> 31u, bitcast<u32>(v.high >> (by - 32u)));
  }
  return Wide(v.high >> by, (v.low >> by) | (bitcast<u32>(v.high) << (32u - by)));
}

/** by <= 31. What is beyond 2^31 saturates anyway, and is cut before. */
fn shiftLeft(v: Wide, by: u32) -> Wide {
  let limit = 0x80000000u;
  var cut = v;
  if (v.high > 0 || (v.high == 0 && v.low > limit)) {
    cut = Wide(0, limit);
  } else if (v.high < -1 || (v.high == -1 && v.low < limit)) {
    cut = Wide(-1, limit);
  }
  // In two shifts: one by 32 would be one by 0.
  return Wide((cut.high << by) | bitcast<i32>((cut.low >> 1u) >> (31u - by)), cut.low << by);
}

fn saturate31(v: Wide) -> i32 {
  let low = bitcast<i32>(v.low);
  if (v.high == (low >> 31u)) {
    return clamp(low, -params.max, params.max);
  }
  return select(params.max, -params.max, v.high < 0);
}

/** Without passing 31 bits in between. */
fn addBias(value: i32, bias: i32) -> i32 {
  if (bias > 0) {
    return select(value + bias, params.max, value > params.max - bias);
  }
  return select(value + bias, -params.max, value < -params.max - bias);
}
`;
