/** What every command gets: settings, folder, output. */
import type { Command } from "commander";
import { createClient, type Client } from "../client/client.ts";
import { configFile, homeFolder, readConfigFile } from "./home.ts";
import { type Resolved, resolveSettings, type Settings } from "./settings.ts";

export interface Context {
  readonly home: string;
  readonly resolved: Resolved;
  readonly settings: Settings;
  /** Flags of this command that are no settings. */
  readonly flags: Readonly<Record<string, unknown>>;
  /** @param otherKey presented where no API key is set */
  client(otherKey?: string | null): Client;
}

/**
 * Settings for a command from its flags, the environment and the file.
 *
 * @param ownFlags flags of this command that share their name with a setting but mean something else
 */
export function contextOf(command: Command, ownFlags: readonly string[] = []): Context {
  const home = homeFolder(process.env);
  const path = configFile(home);
  const flags = command.optsWithGlobals();
  const resolved = resolveSettings({
    flags: Object.fromEntries(Object.entries(onlyGiven(command)).filter(([key]) => !ownFlags.includes(key))),
    environment: process.env,
    file: { path, content: readConfigFile(path) },
  });
  const { values } = resolved;
  return {
    home,
    resolved,
    settings: values,
    flags,
    client: (otherKey = null) =>
      createClient({ baseUrl: values.gateway, apiKey: values.apiKey ?? otherKey, fetch }),
  };
}

/** Flags that were given; Commander mixes in defaults. */
function onlyGiven(command: Command): Record<string, unknown> {
  const given: Record<string, unknown> = {};
  for (let at: Command | null = command; at !== null; at = at.parent) {
    for (const [key, value] of Object.entries(at.opts())) {
      if (at.getOptionValueSource(key) === "cli") given[key] ??= value;
    }
  }
  return given;
}
