import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { DataError, UsageError } from "../errors.js";
import { parseColumnMap, parseCsv, parseJson, parseJsonl, parseParquet, renameColumns, rowTable } from "./rows.js";

const fixture = (name: string): Promise<Uint8Array> => readFile(new URL(`fixtures/${name}`, import.meta.url));

function fault(run: () => unknown): DataError {
  try {
    run();
  } catch (error) {
    if (error instanceof DataError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("parseJsonl", () => {
  it("reads rows with a mark, blank lines, CRLF and line separators in strings, and knows their lines", () => {
    const table = parseJsonl('\uFEFF{"text":"a\u2028b"}\r\n\r\n{"text":"c","label":3}\n', "dir/train.jsonl");
    expect(table.rows).toEqual([{ text: "a\u2028b" }, { text: "c", label: 3 }]);
    expect([table.where(0), table.where(1)]).toEqual(["dir/train.jsonl:1", "dir/train.jsonl:3"]);
  });

  it.each([
    ['{"text": x}', 10, "a value", '{"text": x}'],
    ['{"text": "a" "label": 1}', 14, '"," or "}"', '"label"'],
    ['{"text": "a"', 13, '"," or "}"', '{"text": "a"'],
    ['{"text": "a', 12, 'a closing "', '{"text": "a'],
    ["{'text': 1}", 2, 'a "key"', "{'text'"],
    ['{"text": "a",}', 14, 'a "key"', ",}"],
    ['{"a": [1, 2,]}', 13, "a value", "2,]}"],
    ['{"text" "a"}', 9, '":"', '"a"}'],
    ['{"text": "a"} x', 15, "the end of the line", "} x"],
    ['{"text": "a\\q"}', 12, "a valid escape", "\\q"],
    ['{"text": "a\tb"}', 12, "no control character in a string", "a b"],
    ['{"a": 01}', 8, '"," or "}"', "01"],
  ])("names line, column and what was expected: %s", (line, column, expected, shown) => {
    const error = fault(() => parseJsonl(`{"text":"ok"}\n\n${line}`, "train.jsonl"));
    expect(error.message).toContain(`train.jsonl:3: broken JSON, column ${column}: expected ${expected}: `);
    expect(error.message).toContain(shown);
    expect(error.code).toBe("E_DATA");
  });

  it("collects faults, five at most", () => {
    expect(fault(() => parseJsonl(`[1]\n"x"\n{"a":1}\nnull\n{\n{\n{`, "f.jsonl")).message).toMatch(
      /^f\.jsonl:1: a row must be a JSON object .* got an array: \[1\]\nf\.jsonl:2: .* a string.*\nf\.jsonl:4: .* null.*\nf\.jsonl:5: .*\nf\.jsonl:6: .*\n… and 1 more$/,
    );
  });

  it("refuses a file without rows", () => {
    expect(fault(() => parseJsonl("\n \n", "f.jsonl")).message).toBe("f.jsonl holds no rows");
  });
});

describe("parseJson", () => {
  it("reads an array of objects, or JSON lines", () => {
    const table = parseJson('\uFEFF [\n{"text":"a"},\n{"text":"b"}]', "x.json");
    expect(table.rows).toEqual([{ text: "a" }, { text: "b" }]);
    expect(table.where(1)).toBe("x.json row 2");
    expect(parseJson('{"text":"a"}\n{"text":"b"}', "x.json").where(1)).toBe("x.json:2");
    expect(fault(() => parseJson('[{"a":1}, 3]', "x.json")).message).toBe("x.json row 2: a row must be a JSON object, got a number");
  });
});

describe("parseCsv", () => {
  it("knows the lines of rows after quoted line breaks and blank lines", () => {
    const table = parseCsv('\uFEFFtext,label\r\n"two\r\nlines, ""quoted""",a\r\n\r\nplain,b\r\n', "t.csv");
    expect(table.rows).toEqual([
      { text: 'two\r\nlines, "quoted"', label: "a" },
      { text: "plain", label: "b" },
    ]);
    expect([table.where(0), table.where(1)]).toEqual(["t.csv:2", "t.csv:5"]);
  });

  it("makes numbers of a label column only, and only if all are", () => {
    expect(parseCsv("text,label\n12,3\n7,4", "t.csv").rows).toEqual([
      { text: "12", label: 3 },
      { text: "7", label: 4 },
    ]);
    expect(parseCsv("text,label\na,-1.5\nb,2", "t.csv").rows.map((row) => row.label)).toEqual([-1.5, 2]);
    expect(parseCsv("text,label\na,3\nb,x", "t.csv").rows.map((row) => row.label)).toEqual(["3", "x"]);
    expect(parseCsv("text,label\na,3\nb,", "t.csv").rows.map((row) => row.label)).toEqual(["3", ""]);
    expect(parseCsv("text,label\na,007\nb,008", "t.csv").rows.map((row) => row.label)).toEqual(["007", "008"]);
    expect(parseCsv("text,score\na,3\nb,4", "t.csv", "score").rows.map((row) => row.score)).toEqual([3, 4]);
  });

  it("reads tabs and semicolons", () => {
    expect(parseCsv("text\tlabel\na, b\tx", "t.TSV").rows).toEqual([{ text: "a, b", label: "x" }]);
    expect(parseCsv("text;label\na, b;x", "t.csv").rows).toEqual([{ text: "a, b", label: "x" }]);
  });

  it("names the line of ragged rows and open quotes", () => {
    expect(fault(() => parseCsv('text,label\n"a\nb",x\nc,d,e\nf', "t.csv")).message).toBe(
      "t.csv:4: 3 fields where the header names 2 (text, label)\nt.csv:5: 1 fields where the header names 2 (text, label)",
    );
    expect(fault(() => parseCsv('text,label\nok,x\n"open,y\nmore,z\n', "t.csv")).message).toContain("t.csv:3: Quoted field unterminated");
    expect(fault(() => parseCsv("text,text\na,b", "t.csv")).message).toBe('t.csv:1: the header names "text" twice');
    expect(fault(() => parseCsv("text,\na,b", "t.csv")).message).toContain("without a name");
    expect(fault(() => parseCsv("text,label\n", "t.csv")).message).toBe("t.csv holds no rows");
    expect(fault(() => parseCsv("", "t.csv")).message).toBe("t.csv holds no rows");
  });

  it("keeps 20 000 rows and their lines right", () => {
    const text = `text,label\n${Array.from({ length: 20_000 }, (_, i) => `"row ${i}\nwith two lines",l${i % 3}`).join("\n")}`;
    const table = parseCsv(text, "t.csv");
    expect(table.rows).toHaveLength(20_000);
    expect(table.where(19_999)).toBe("t.csv:40000");
  });
});

describe("parseParquet", () => {
  it("reads text, lists, integers and class names (a file written by pyarrow)", async () => {
    const table = await parseParquet(await fixture("class-label.parquet"), "x.parquet");
    expect(table.rows).toEqual([
      { text: "où est mon colis ?", label: "status", tokens: ["a", "b"], tags: ["O", "B-X"], big: 1, score: 0.5 },
      { text: "second", label: "return", tokens: ["c"], tags: ["B-X"], big: 2n ** 60n, score: 1.5 },
      { text: "third", label: null, tokens: [], tags: [], big: 3, score: null },
    ]);
    expect(table.where(2)).toBe("x.parquet row 3");
  });

  it("names a codec that it cannot read", async () => {
    await expect(parseParquet(await fixture("zstd.parquet"), "x.parquet")).rejects.toThrow("x.parquet is compressed with ZSTD");
  });

  it("refuses what is not Parquet", async () => {
    await expect(parseParquet(new TextEncoder().encode("hello there"), "x.parquet")).rejects.toThrow(
      "x.parquet: not a Parquet file (11 bytes)",
    );
  });
});

describe("parseColumnMap", () => {
  it("reads new=old", () => {
    expect(parseColumnMap("text=utterance, label = intent")).toEqual({ text: "utterance", label: "intent" });
    for (const bad of ["text", "text=", "=a", "a=b=c", "a=b,,", "a=b,a=c"]) expect(() => parseColumnMap(bad)).toThrow(UsageError);
  });
});

describe("renameColumns", () => {
  const table = rowTable([{ utterance: "a", intent: 1, id: 0 }, { utterance: "b" }], "t.jsonl", [1, 2]);

  it("renames, swaps and copies", () => {
    expect(renameColumns(table, { text: "utterance", label: "intent" }).rows).toEqual([{ text: "a", label: 1, id: 0 }, { text: "b" }]);
    expect(renameColumns(table, { utterance: "intent", intent: "utterance" }).rows[0]).toEqual({ utterance: 1, intent: "a", id: 0 });
    expect(renameColumns(table, { prompt: "utterance", text: "utterance" }).rows[1]).toEqual({ prompt: "b", text: "b" });
    expect(renameColumns(table, { text: "utterance" }).where(1)).toBe("t.jsonl:2");
  });

  it("refuses a source that is missing and a target that is taken", () => {
    const missing = fault(() => renameColumns(table, { text: "uterance" }));
    expect(missing.message).toBe('t.jsonl has no column "uterance" (its columns are utterance, intent, id)');
    expect(missing.hint).toBe('Did you mean "utterance"?');
    expect(fault(() => renameColumns(table, { id: "intent" })).message).toContain('cannot rename column "intent" to "id"');
    expect(fault(() => renameColumns(table, { utterance: "utterance", id: "intent" })).message).toContain("cannot rename");
  });
});
