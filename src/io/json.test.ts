import { expect, test } from "vitest";
import { findJsonFault, readJson } from "./json.js";
import { memoryFiles } from "./memory-files.js";

const read = (text: string | Uint8Array) =>
  readJson(memoryFiles("m", { "config.json": typeof text === "string" ? new TextEncoder().encode(text) : text }), "config.json");

test("reads JSON, with or without a byte order mark", async () => {
  expect(await read('\ufeff{"a": [1, -2.5e3, "ü", null]}\n')).toEqual({ a: [1, -2500, "ü", null] });
  expect(await read('{"a": 1, "a": 2}')).toEqual({ a: 2 });
});

test("a fault is named with file, line and column", async () => {
  await expect(read('{\n  "a": 1,\n  "b": }')).rejects.toMatchObject({
    code: "E_FILE",
    message: 'm/config.json: not valid JSON at line 3, column 8: expected a value, found "}"',
    hint: expect.any(String),
  });
  await expect(read("")).rejects.toThrow("line 1, column 1: expected a value, found the end of the text");
  await expect(read('{"a": 1,\n}')).rejects.toThrow('line 2, column 1: expected a key in double quotes, found "}"');
  await expect(read("[1\n,NaN]")).rejects.toThrow('line 2, column 2: expected a value, found "N"');
  await expect(read(new Uint8Array([0x7b, 0xff]))).rejects.toThrow("m/config.json: not UTF-8 text");
  await expect(readJson(memoryFiles("m", {}), "config.json")).rejects.toThrow("m/config.json: no such file");
});

test("finds a fault exactly where JSON.parse refuses", () => {
  const parts = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    '"a"',
    '"\\u00e9"',
    '"\\x"',
    '"',
    "1",
    "-",
    "0",
    "01",
    "-0",
    "1.5",
    "1.",
    ".5",
    "1e5",
    "1e",
    "+1",
    "true",
    "nul",
    "null",
    " ",
    "\n",
    "\t",
    "\0",
    "\\",
    '"\t"',
    "é",
  ];
  let seed = 1;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  let valid = 0;
  for (let i = 0; i < 50_000; i++) {
    let text = Array.from({ length: 1 + random(6) }, () => parts[random(parts.length)]).join("");
    if (i % 2) text = `{"a":[${text}]}`;
    let parses = true;
    try {
      JSON.parse(text);
      valid++;
    } catch {
      parses = false;
    }
    if ((findJsonFault(text) === undefined) !== parses) expect.fail(`${JSON.stringify(text)}: ${JSON.stringify(findJsonFault(text))}`);
  }
  expect(valid).toBeGreaterThan(1000);
});

test("the rules beyond the grammar", () => {
  const rules = { uniqueKeys: true, plainIntegers: true };
  expect(findJsonFault('{"a":{"a":1},"b":[{"a":20},{"a":0}]}', rules)).toBeUndefined();
  expect(findJsonFault('{"a":1, "\\u0061":2}', rules)).toEqual({ offset: 8, problem: 'key "a" appears twice in one object' });
  for (const number of ["-1", "1.0", "1e2", "-0"]) expect(findJsonFault(`[${number}]`, rules)?.problem).toContain(`found "${number}"`);
  expect(findJsonFault(`${"[".repeat(1e6)}`)?.problem).toContain("nested deeper than 512");
});
