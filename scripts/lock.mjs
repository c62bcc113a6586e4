// Makes package-lock.json (here and in engines/llama) from package.json, complete for all platforms.
//
// npm leaves optional packages out of a lockfile when the registry at hand does not have them, and `npm ci`
// then refuses the lockfile. Their entries (version and platform from the package that wants them) are added here.
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const systems = { mac: "darwin", win: "win32" };
const processors = ["x64", "arm64", "arm", "ia32", "ppc64", "riscv64", "s390x"];

for (const folder of [root, join(root, "engines", "llama")]) complete(folder);

function complete(folder) {
  const file = join(folder, "package-lock.json");
  rmSync(file, { force: true });
  npm(folder, "install", "--package-lock-only", "--ignore-scripts");
  const lock = JSON.parse(readFileSync(file, "utf8"));
  const wanted = Object.values(lock.packages).flatMap((entry) =>
    Object.entries(entry.optionalDependencies ?? {}).map(([name, version]) => ({
      name,
      version,
      dev: entry.dev,
    })),
  );
  for (const { name, version, dev } of wanted) {
    const key = `node_modules/${name}`;
    if (lock.packages[key] !== undefined || !/^\d+\.\d+\.\d+/.test(version)) continue;
    lock.packages[key] = { version, ...platformOf(name), ...(dev ? { dev } : {}), optional: true };
    console.log(`${folder === root ? "." : "engines/llama"}: added ${name}@${version}`);
  }
  const sorted = Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1));
  lock.packages = Object.fromEntries(sorted);
  writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
  npm(folder, "ci", "--dry-run", "--ignore-scripts");
}

/** Platform packages are named after what they run on: `binding-linux-arm64-musl`, `mac-x64`, … */
function platformOf(name) {
  const parts = name
    .split("/")
    .at(-1)
    .replace(/^binding-/, "")
    .split("-");
  const os = parts.find((part) =>
    /^(linux|darwin|win32|win|mac|android|freebsd|openharmony|wasm32)$/.test(part),
  );
  const cpu = processors.filter((processor) => parts.includes(processor));
  const libc = parts.some((part) => part.startsWith("musl")) ? "musl" : "glibc";
  return {
    ...(cpu.length > 0 ? { cpu } : {}),
    ...(os === undefined ? {} : { os: [systems[os] ?? os] }),
    ...(os === "linux" && parts.some((part) => /^(gnu|musl)/.test(part)) ? { libc: [libc] } : {}),
  };
}

function npm(folder, ...args) {
  const result = spawnSync("npm", [...args, "--no-fund", "--no-audit", "--loglevel=error"], {
    cwd: folder,
    stdio: ["ignore", "ignore", "inherit"],
    shell: process.platform === "win32",
  });
  if (result.status !== 0) process.exit(result.status ?? 1);
}
