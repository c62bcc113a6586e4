import { readFileSync, renameSync, writeFileSync } from "node:fs";
import type { BudgetStore } from "../gateway/search/daily-budget.ts";

/** A file that holds the old or the new text, whatever happens in between; its owner alone may read it. */
export function budgetFile(path: string): BudgetStore {
  return {
    read() {
      try {
        return readFileSync(path, "utf8");
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
        throw error;
      }
    },
    write(text) {
      const temporary = `${path}.${process.pid}`;
      writeFileSync(temporary, text, { mode: 0o600 });
      renameSync(temporary, path);
    },
  };
}
