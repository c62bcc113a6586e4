/** Set by `bin/skein.mjs` when it runs this program under another Node, as its child. */
const variable = "SKEIN_LAUNCHED";

/**
 * A launcher that is killed outright cannot pass a signal on, but the channel between the two closes. Then this
 * process ends as if the signal had come, so that nothing goes on unseen.
 */
export function endWithLauncher(): void {
  if (process.env[variable] === undefined) return;
  // Processes that this one starts are not the launcher's.
  delete process.env[variable];
  const end = (): void => void process.kill(process.pid, "SIGTERM");
  if (!process.connected) return end();
  process.once("disconnect", end);
  // Listening must not keep a finished command alive.
  process.channel?.unref();
}
