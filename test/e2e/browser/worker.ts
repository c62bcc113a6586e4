/** Does one task off the page's main thread. */
import { does } from "./tasks.ts";
import type { WorkerReply, WorkerTask } from "./page.ts";

addEventListener("message", (event: MessageEvent<WorkerTask>) => {
  const { name, asks } = event.data;
  const reply = (message: WorkerReply): void => postMessage(message);
  does[name](asks as never).then(
    (gives) => reply({ gives }),
    (error: unknown) => reply({ error: String(error) }),
  );
});
