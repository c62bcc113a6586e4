// Writes vectors/receipts.json; they change only with the version of receipts.
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { receiptVectors } from "../src/audit/receipt-vectors.suite.ts";

writeFileSync(fileURLToPath(new URL("../vectors/receipts.json", import.meta.url)), await receiptVectors());
