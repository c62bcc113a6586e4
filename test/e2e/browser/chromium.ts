/** A Chromium of this machine, without window, network services or memory of earlier runs. */
import { accessSync, constants } from "node:fs";
import { type BrowserContext, chromium, type Page } from "playwright-core";
import { temporaryHome, within } from "../processes.ts";
import type { perform, Place } from "./page.ts";
import type { Tasks } from "./tasks.ts";

const usualPaths = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
  "C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe",
];
const startMsMax = 60_000;
/** Generous, as `waitMs`: reaching it is a failure. */
const taskMsMax = 120_000;
const quiet = [
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const flagsOf = {
  none: ["--disable-gpu"],
  /** Chromium brings a Vulkan device that computes on the processor. */
  software: ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"],
} as const;

/** Path of the browser, `SKEIN_CHROMIUM` before others; null: none was found. */
export function findChromium(): string | null {
  const given = process.env["SKEIN_CHROMIUM"];
  return (given === undefined ? usualPaths : [given]).find(isExecutable) ?? null;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Why tests in a browser are left out, or false.
 * @throws Error when there is no browser and `SKEIN_REQUIRE_BROWSER` says that there must be one
 */
export function skipWithoutBrowser(): string | false {
  if (findChromium() !== null) return false;
  const why =
    "NOT RUN: no Chromium was found. Install one (Debian: apt install chromium), or name it in SKEIN_CHROMIUM.";
  if ((process.env["SKEIN_REQUIRE_BROWSER"] ?? "") !== "") throw new Error(why);
  return why;
}

export interface Browser {
  readonly context: BrowserContext;
  /** A page of its own at `url`; what it prints in vain is an error. */
  open(url: string): Promise<Page>;
  close(): Promise<void>;
}

export async function startBrowser(gpu: keyof typeof flagsOf): Promise<Browser> {
  const home = temporaryHome();
  const context = await chromium.launchPersistentContext(home.path, {
    executablePath: findChromium()!,
    headless: true,
    chromiumSandbox: false,
    args: [...quiet, ...flagsOf[gpu]],
    timeout: startMsMax,
  });
  return {
    context,
    async open(url) {
      const page = await context.newPage();
      page.on("pageerror", (error) => console.error(`In the browser: ${error.message}`));
      await page.goto(url);
      return page;
    },
    async close() {
      await context.close();
      home.remove();
    },
  };
}

interface PageModule {
  readonly perform: typeof perform;
}

/** Has a page of `serveModules` do a task. */
export function performIn<Name extends keyof Tasks>(
  page: Page,
  place: Place,
  name: Name,
  asks: Tasks[Name]["asks"],
): Promise<Tasks[Name]["gives"]> {
  const task = { module: "/test/e2e/browser/page.ts", place, name, asks };
  const result = page.evaluate(async ({ module, ...rest }) => {
    const { perform } = (await import(module)) as PageModule;
    return perform(rest.place, rest.name, rest.asks);
  }, task);
  return within(result as Promise<Tasks[Name]["gives"]>, `${name} in the browser`, taskMsMax);
}
