import type { Command } from "commander";
import { contextOf } from "../context.ts";
import { configFile, homeFolder } from "../home.ts";
import { settings, type SettingKey, show } from "../settings.ts";
import { styled, table } from "../terminal.ts";

/** `skein config` */
export function config(command: Command): void {
  const { home, resolved, flags } = contextOf(command);
  const keys = Object.keys(settings) as SettingKey[];
  if (flags["json"] === true) {
    const values = keys.map((key) => [
      key,
      { value: masked(key, resolved.values[key]), source: resolved.sources[key] },
    ]);
    console.log(JSON.stringify({ file: configFile(home), settings: Object.fromEntries(values) }, null, 2));
    return;
  }
  console.log(`file: ${configFile(home)}\n`);
  const rows = keys.map((key) => {
    const { [key]: source } = resolved.sources;
    const value = show(key, resolved.values[key]);
    return [
      key,
      source === "default" ? styled("dim", value) : value,
      source,
      styled("dim", settings[key].about),
    ];
  });
  console.log(table(["setting", "value", "from", ""], rows));
}

/** `skein config path`; works also while the file is broken, because then it is wanted most. */
export function configPath(command: Command): void {
  const path = configFile(homeFolder(process.env));
  console.log(command.optsWithGlobals()["json"] === true ? JSON.stringify({ path }) : path);
}

function masked(key: SettingKey, value: unknown): unknown {
  return (settings[key] as { secret?: boolean }).secret ? show(key, value) : value;
}
