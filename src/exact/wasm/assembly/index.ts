/** What the module exports; compiled by scripts/build-kernels.mjs. */
export { matmul } from "./linear";
export { matmulGrouped } from "./grouped";
export { addTo, embed, gatedBlock, normHead, normToBlock, rotate, toBlock } from "./vectors";
export { attend } from "./attention";
export { keepHead } from "./keep";
export { placeGroups, placeRows, placeScales } from "./placing";
export { hashEach } from "./sha256";
