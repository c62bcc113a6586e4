/**
 * Jinja templates from model files, which anybody may have written: time and memory are bounded.
 */
import { createContext, Script } from "node:vm";
import * as jinja from "@huggingface/jinja";
import { SkeinError } from "../util/errors.ts";

/** The longest templates in use have about 20,000 characters. */
export const chatTemplateCharsMax = 200_000;
/** Templates take milliseconds; the rest is for a busy machine. The engine stands still meanwhile. */
const renderTimeMaxMs = 2_000;
/** Characters of any text, and entries of any list, that a template may compute: above the longest context. */
export const templateValueSizeMax = 16_000_000;
const rangeLengthMax = 10_000;

interface Value {
  readonly value: unknown;
}
interface Runtime {
  readonly Environment: new () => { set(name: string, value: unknown): void };
  readonly Interpreter: new (environment: object) => {
    run(program: object): Value;
    evaluate(statement: unknown, environment: unknown): Value;
  };
}
/** The package's declarations of these two point to files without an extension, which TypeScript cannot find. */
const { Environment, Interpreter } = jinja as unknown as Runtime;

export type TemplateValues = Readonly<Record<string, unknown>>;

/**
 * Compiles a template; the result renders it. `nowMs` is what its `strftime_now` shows, in UTC, so that
 * providers in different places agree.
 *
 * @throws SkeinError `invalid_request` when the template is broken
 */
export function compileTemplate(source: string): (values: TemplateValues, nowMs: number) => string {
  if (source.length > chatTemplateCharsMax) {
    throw broken(`it has ${source.length} characters; at most ${chatTemplateCharsMax} are supported`);
  }
  let program: jinja.Template;
  try {
    program = withinTime(() => new jinja.Template(source));
  } catch (error) {
    throw broken(reasonOf(error), error);
  }
  return (values, nowMs) => {
    try {
      return withinTime(() => run(program, values, nowMs));
    } catch (error) {
      throw new SkeinError(
        "invalid_request",
        `The model's chat template refused the messages: ${reasonOf(error)}`,
        { param: "messages", cause: error },
      );
    }
  };
}

function broken(why: string, cause?: unknown): SkeinError {
  return new SkeinError("invalid_request", `The model's chat template cannot be used: ${why}.`, {
    hint: "Use /v1/completions with a plain prompt, or another build of the model.",
    param: "messages",
    cause,
  });
}

const constants = { true: true, True: true, false: false, False: false, none: null, None: null };

function run(program: jinja.Template, values: TemplateValues, nowMs: number): string {
  const environment = new Environment();
  const globals = {
    ...constants,
    raise_exception: (message: unknown) => {
      throw new Error(String(message));
    },
    range,
    strftime_now: (format: unknown) => strftime(String(format), new Date(nowMs)),
    ...values,
  };
  for (const [name, value] of Object.entries(globals)) environment.set(name, value);
  return String(new BoundedInterpreter(environment).run(program.parsed).value);
}

/** Doubling a text or a list forty times is within any limit of steps or time, but not of memory. */
class BoundedInterpreter extends Interpreter {
  override evaluate(statement: unknown, scope: unknown): Value {
    const result = super.evaluate(statement, scope);
    const { value } = result;
    const size = typeof value === "string" || Array.isArray(value) ? value.length : 0;
    if (size > templateValueSizeMax) throw new Error(`a value is longer than ${templateValueSizeMax}`);
    return result;
  }
}

function range(...given: number[]): number[] {
  const [start, stop, step] = given.length === 1 ? [0, given[0]!, 1] : [given[0]!, given[1]!, given[2] ?? 1];
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= rangeLengthMax)) throw new Error(`range() of more than ${rangeLengthMax} numbers`);
  return Array.from({ length }, (_, i) => start + i * step);
}

const months = "January February March April May June July August September October November December";
const weekdays = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday";

/** The directives that templates use, in UTC and English, as Python's strftime writes them. */
function strftime(format: string, date: Date): string {
  const month = months.split(" ")[date.getUTCMonth()]!;
  const weekday = weekdays.split(" ")[date.getUTCDay()]!;
  const [year, monthNumber, day, hour, minute, second] = date.toISOString().split(/[-T:.]/);
  const parts: Readonly<Record<string, string | undefined>> = {
    Y: year,
    y: year?.slice(-2),
    m: monthNumber,
    B: month,
    b: month.slice(0, 3),
    d: day,
    A: weekday,
    a: weekday.slice(0, 3),
    H: hour,
    M: minute,
    S: second,
    "%": "%",
  };
  return format.replaceAll(/%(.)/g, (whole, directive: string) => parts[directive] ?? whole);
}

const sandbox: { work: (() => unknown) | null } = { work: null };
const context = createContext(sandbox);
const callWork = new Script("work()");

/** `vm` is the only way to end a computation from outside; the work itself runs in this realm. */
function withinTime<T>(work: () => T): T {
  sandbox.work = work;
  try {
    return callWork.runInContext(context, { timeout: renderTimeMaxMs }) as T;
  } finally {
    sandbox.work = null;
  }
}

function reasonOf(error: unknown): string {
  // Errors of `vm` itself belong to its realm: they are no instances of this one's Error.
  const { code, message } = error as { code?: unknown; message?: unknown };
  if (code === "ERR_SCRIPT_EXECUTION_TIMEOUT") return `it takes longer than ${renderTimeMaxMs} ms`;
  return String(message ?? error).slice(0, 300);
}
