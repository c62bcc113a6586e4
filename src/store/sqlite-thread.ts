/** The thread that owns the store's file: a flush to the disk takes milliseconds that no stream should wait. */
import { parentPort, workerData } from "node:worker_threads";
import { toSkeinError } from "../util/errors.ts";
import type { FromThread, ToThread } from "./messages.ts";
import { SqliteDatabase } from "./sqlite-database.ts";

const port = parentPort!;
const tell = (message: FromThread): void => port.postMessage(message);

function answerOf(database: SqliteDatabase, message: ToThread): unknown {
  switch (message.type) {
    case "get":
      return database.get(message.key, message.nowMs);
    case "scan":
      return database.scan(message.scan, message.nowMs);
    case "commit":
      return database.commit(message.batches, message.nowMs);
    case "sweep":
      return database.sweep(message.limit, message.nowMs);
    case "close":
      database.close();
      return null;
  }
}

function attempt(id: number | null, act: () => FromThread): void {
  try {
    tell(act());
  } catch (error) {
    const { code, message, hint } = toSkeinError(error, "store_failed");
    tell({ type: "error", id, error: { code, message, hint } });
  }
}

attempt(null, () => {
  const database = new SqliteDatabase((workerData as { path: string }).path);
  port.on("message", (message: ToThread) => {
    attempt(message.id, () => ({ type: "answer", id: message.id, result: answerOf(database, message) }));
    if (message.type === "close") port.close();
  });
  return { type: "opened" };
});
