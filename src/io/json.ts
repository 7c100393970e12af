import { FileError } from "../errors.js";
import type { Files } from "./files.js";

/** Where a text stops being JSON. */
export interface JsonFault {
  /** Position in the text, in UTF-16 units. */
  readonly offset: number;
  readonly problem: string;
}

/** What readJson and findJsonFault ask for beyond the grammar. */
export interface JsonRules {
  /** Refuse an object that has a key twice; JSON.parse silently keeps the last. Default false. */
  readonly uniqueKeys?: boolean;
  /** Refuse signs, fractions and exponents: all numbers are counts. Default false. */
  readonly plainIntegers?: boolean;
}

/** JSON nested deeper than this is refused: no file we read comes near. */
const MAX_DEPTH = 512;

/**
 * Reads and parses one JSON file (UTF-8, a byte order mark is skipped).
 * Throws FileError when the file is missing, is not UTF-8, or is not JSON; the message names file, line and column.
 */
export async function readJson(files: Files, name: string, rules: JsonRules = {}): Promise<unknown> {
  const bytes = await files.read(name);
  const where = `${files.origin}/${name}`;
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new FileError(`${where}: not UTF-8 text`, { cause });
  }
  const fault = rules.uniqueKeys || rules.plainIntegers ? findJsonFault(text, rules) : undefined;
  if (fault) throw faultError(where, text, fault);
  try {
    return JSON.parse(text);
  } catch (cause) {
    // Engines word their SyntaxErrors differently and often leave the position out, so we look for it ourselves.
    throw faultError(where, text, findJsonFault(text, rules) ?? { offset: 0, problem: String(cause) });
  }
}

function faultError(where: string, text: string, { offset, problem }: JsonFault): FileError {
  const before = text.slice(0, offset).split("\n");
  const position = `line ${before.length}, column ${before.at(-1)!.length + 1}`;
  return new FileError(`${where}: not valid JSON at ${position}: ${problem}`, {
    hint: "Mend the file at that place, or download it again if it came from the hub.",
  });
}

/** The first place where `text` breaks JSON's grammar (RFC 8259) or one of the rules; undefined when it keeps them all. Loops, never recurses. */
export function findJsonFault(text: string, rules: JsonRules = {}): JsonFault | undefined {
  const open: (Set<string> | "array")[] = []; // for each open object the keys seen so far
  let state: "value" | "first value" | "key" | "first key" | "after" = "value";
  let at = 0;
  for (;;) {
    at = skipSpace(text, at);
    const char = text[at];
    const inside = open.at(-1);
    if (state === "after") {
      if (inside === undefined) return char === undefined ? undefined : fault(text, at, "the end of the text");
      const close = inside === "array" ? "]" : "}";
      if (char === close) open.pop();
      else if (char === ",") state = inside === "array" ? "value" : "key";
      else return fault(text, at, `"," or "${close}"`);
      at++;
    } else if ((state === "first value" && char === "]") || (state === "first key" && char === "}")) {
      open.pop();
      state = "after";
      at++;
    } else if (state === "key" || state === "first key") {
      if (char !== '"') return fault(text, at, "a key in double quotes");
      const end = endOfString(text, at);
      if (typeof end !== "number") return end;
      const key: string = JSON.parse(text.slice(at, end));
      if (rules.uniqueKeys && inside instanceof Set) {
        if (inside.has(key)) return { offset: at, problem: `key ${quote(key)} appears twice in one object` };
        inside.add(key);
      }
      at = skipSpace(text, end);
      if (text[at] !== ":") return fault(text, at, `":"`);
      at++;
      state = "value";
    } else if (char === "{" || char === "[") {
      if (open.length === MAX_DEPTH) return { offset: at, problem: `nested deeper than ${MAX_DEPTH} levels` };
      open.push(char === "{" ? new Set() : "array");
      state = char === "{" ? "first key" : "first value";
      at++;
    } else {
      const end = char === '"' ? endOfString(text, at) : endOfWord(text, at, rules);
      if (typeof end !== "number") return end;
      at = end;
      state = "after";
    }
  }
}

function fault(text: string, offset: number, expected: string): JsonFault {
  const found = offset < text.length ? quote(String.fromCodePoint(text.codePointAt(offset)!)) : "the end of the text";
  return { offset, problem: `expected ${expected}, found ${found}` };
}

function skipSpace(text: string, at: number): number {
  while (text[at] === " " || text[at] === "\n" || text[at] === "\r" || text[at] === "\t") at++;
  return at;
}

function endOfString(text: string, start: number): number | JsonFault {
  for (let at = start + 1; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 0x22) return at + 1;
    if (code < 0x20) return fault(text, at, "no control character in a string");
    if (code !== 0x5c) continue;
    at++;
    const isHex = text[at] === "u" && /^[0-9a-fA-F]{4}$/.test(text.slice(at + 1, at + 5));
    if (isHex) at += 4;
    else if (at >= text.length || !'"\\/bfnrt'.includes(text[at]!)) return fault(text, at, "an escape such as \\n or \\u0041");
  }
  return fault(text, text.length, "the closing quote of a string");
}

function endOfWord(text: string, start: number, rules: JsonRules): number | JsonFault {
  let end = start;
  while (isDigit(text.charCodeAt(end))) end++;
  const isPlain = end > start && (end === start + 1 || text[start] !== "0");
  if (isPlain && !isWordCode(text.charCodeAt(end))) return end; // nearly all numbers of a weight file's header
  while (end < text.length && isWordCode(text.charCodeAt(end))) end++;
  const word = text.slice(start, end);
  if (word === "true" || word === "false" || word === "null") return end;
  if (!/^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?$/.test(word)) return fault(text, start, "a value");
  if (rules.plainIntegers && !/^\d+$/.test(word)) {
    return { offset: start, problem: `expected a whole number without sign or exponent, found ${quote(word)}` };
  }
  return end;
}

/** Digits, letters, "+", "-" and ".": all that numbers and literals consist of. */
function isWordCode(code: number): boolean {
  return (
    isDigit(code) || (code >= 0x61 && code <= 0x7a) || (code >= 0x41 && code <= 0x5a) || code === 0x2b || code === 0x2d || code === 0x2e
  );
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

/** A name in quotes for a message, cut when it is very long. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}…` : name);
}

/** Whether a parsed value is a JSON object: not null, not an array. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
