/** The user's folder: configuration, keys, engines. Everything secret is readable by its owner only. */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { identitySeedBytes } from "../network/identity.ts";
import { fromHex, toHex } from "../util/bytes.ts";
import { SkeinError } from "../util/errors.ts";
import { systemRandom } from "../util/random.ts";

/** `SKEIN_HOME`, else the platform's place for a program's configuration. */
export function homeFolder(environment: NodeJS.ProcessEnv): string {
  if (environment["SKEIN_HOME"]) return environment["SKEIN_HOME"];
  if (process.platform === "win32") return join(environment["APPDATA"] ?? homedir(), "skein");
  return join(environment["XDG_CONFIG_HOME"] ?? join(homedir(), ".config"), "skein");
}

export function configFile(home: string): string {
  return join(home, "config.json");
}

/** @throws SkeinError `invalid_config` */
export function readConfigFile(path: string): Record<string, unknown> {
  let source: string;
  try {
    source = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw new SkeinError("invalid_config", `${path} cannot be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
  try {
    const value: unknown = JSON.parse(source);
    if (typeof value === "object" && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>;
  } catch (error) {
    throw new SkeinError("invalid_config", `${path} is not valid JSON: ${(error as Error).message}`, {
      cause: error,
    });
  }
  throw new SkeinError("invalid_config", `${path} must hold a JSON object.`);
}

/** The 32 secret bytes of an identity, made at first use. */
export function loadOrCreateIdentity(file: string): Uint8Array {
  const text =
    readSecret(file) || createSecret(file, toHex(systemRandom.bytes(identitySeedBytes)), false).text;
  if (!/^[0-9a-f]{64}$/.test(text)) {
    throw new SkeinError("invalid_config", `${file} does not hold an identity.`, {
      hint: "Restore it from a copy, or delete it to get a new identity.",
    });
  }
  return fromHex(text);
}

/** A secret text (join token, API key), made at first use. */
export function loadOrCreateSecret(file: string, prefix: string): { secret: string; isNew: boolean } {
  const known = readSecret(file);
  if (known !== "") return { secret: known, isNew: false };
  const { text, isMine } = createSecret(file, prefix + toHex(systemRandom.bytes(24)), true);
  return { secret: text, isNew: isMine };
}

/** Empty: there is none. */
function readSecret(file: string): string {
  try {
    return readFileSync(file, "utf8").trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw unusable(file, "read", error);
  }
}

/** Between another process's creating a file and its writing into it pass microseconds. */
const winnerWaitMs = 10;
const winnerWaits = 50;

/**
 * Of several processes that create a secret at once one wins; all use what it wrote.
 *
 * @param mayReplaceEmpty whether a file that stays empty gets the new text (an identity may have been lost there)
 */
function createSecret(
  file: string,
  text: string,
  mayReplaceEmpty: boolean,
): { text: string; isMine: boolean } {
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(file, `${text}\n`, { mode: 0o600, flag: "wx" });
    return { text, isMine: true };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw unusable(file, "written", error);
  }
  for (let i = 0; i < winnerWaits; i++) {
    const winner = readSecret(file);
    if (winner !== "") return { text: winner, isMine: false };
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, winnerWaitMs);
  }
  if (!mayReplaceEmpty) return { text: "", isMine: false };
  // Nobody is writing: the file was empty before, perhaps with a mode of its own.
  chmodSync(file, 0o600);
  writeFileSync(file, `${text}\n`);
  return { text, isMine: true };
}

function unusable(file: string, verb: "read" | "written", error: unknown): SkeinError {
  return new SkeinError("invalid_config", `${file} cannot be ${verb}: ${(error as Error).message}`, {
    hint: "Mend its permissions, or point SKEIN_HOME to another folder.",
    cause: error,
  });
}
