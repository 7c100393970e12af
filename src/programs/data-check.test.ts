import { describe, expect, test } from "vitest";
import { type Row, rowTable } from "../data/rows.js";
import { textClassification } from "../tasks/text-classification.js";
import { tokenClassification } from "../tasks/token-classification.js";
import { checkRows, type DataReport, guessColumns, lengthsOf } from "./data-check.js";

const table = (rows: readonly Row[], origin = "train.jsonl") =>
  rowTable(
    rows,
    origin,
    rows.map((_, i) => i + 1),
  );
const good: readonly Row[] = [
  { text: "a red hat", label: "hat" },
  { text: "a blue hat", label: "hat" },
  { text: "a long film", label: "film" },
];
const check = (rows: readonly Row[], evalRows?: readonly Row[], limit = 50): DataReport =>
  checkRows(table(rows), {
    task: textClassification,
    limit,
    scope: { train_on_prompt: false, last_turn_only: false },
    evalRows: evalRows === undefined ? undefined : table(evalRows, "test.jsonl"),
  });

describe("checkRows", () => {
  test("good rows have no faults; labels are counted, the most frequent first", () => {
    const report = check(good, [{ text: "an old hat", label: "hat" }]);
    expect(report).toMatchObject({ fault_count: 0, faults: [], train: { rows: 3, labels: { hat: 2, film: 1 } }, eval: { rows: 1 } });
    expect(Object.keys(report.train.labels!)).toEqual(["hat", "film"]);
  });

  test.each<[name: string, row: Row, kind: string, message: string]>([
    ["no text", { label: "hat" }, "missing-column", 'no "text"'],
    ["a null label", { text: "x", label: null }, "missing-column", 'no "label"'],
    ["an empty text", { text: " \n", label: "hat" }, "empty-text", '"text" is empty'],
    ["an empty second text", { text: "x", text_pair: "", label: "hat" }, "empty-text", '"text_pair" is empty'],
    ["a text that is a number", { text: 5, label: "hat" }, "bad-value", '"text" is 5, expected a text'],
    ["a label that is a list", { text: "x", label: ["hat"] }, "bad-value", 'label ["hat"] is neither a text nor a number'],
    ["a row that was there", { text: "a red hat", label: "hat" }, "duplicate", "the same row as train.jsonl:1"],
    [
      "a text that was there, with another label",
      { text: "a red hat", label: "film" },
      "conflicting-labels",
      'the same text as train.jsonl:1, but labelled "film", there "hat"',
    ],
    ["a number among names", { text: "x", label: 3 }, "bad-value", "label 3 is a number, the rows before have a string"],
  ])("%s", (_, row, kind, message) => {
    expect(check([...good, row]).faults).toEqual([
      { kind, where: "train.jsonl:4", message, hint: expect.toSatisfy((hint) => hint === null || hint.length > 5) },
    ]);
  });

  test("columns of lists hold lists", () => {
    const rows = [
      { tokens: ["Ada", "lives"], tags: ["B-PER", "O"] },
      { tokens: "Ada", tags: ["B-PER"] },
    ];
    const report = checkRows(table(rows), {
      task: tokenClassification,
      limit: 5,
      scope: { train_on_prompt: false, last_turn_only: false },
    });
    expect(report.faults.map(({ where, message }) => `${where}: ${message}`)).toEqual([
      'train.jsonl:2: "tokens" is "Ada", expected a list',
    ]);
  });

  test("a slip in a column's name is guessed", () => {
    expect(check([...good, { text: "x", lable: "hat" }]).faults[0]!.hint).toBe('is "lable" a slip?');
  });

  test("a column that no row has is one fault, with a map to copy", () => {
    const rows = Array.from({ length: 12 }, (_, i) => ({ id: `${i}`, utterance: `a text of some length ${i}`, intent: ["a", "b"][i % 2] }));
    const report = check(rows);
    expect(report.faults.map(({ where, message }) => `${where}: ${message}`)).toEqual([
      'train.jsonl: no row has a column "text"; there are: id, utterance, intent',
      'train.jsonl: no row has a column "label"; there are: id, utterance, intent',
    ]);
    expect(report.faults[0]!.hint).toContain("--map text=utterance,label=intent");
  });

  test("evaluation rows: unknown labels, and texts that were trained on", () => {
    const report = check(good, [good[0]!, { text: "y", label: "shoe" }, { text: "z", label: "films" }]);
    expect(report.faults.map(({ kind, where, message }) => [kind, where, message.slice(0, 45)])).toEqual([
      ["in-train-and-eval", "test.jsonl:1", "the same text is in the training rows (train."],
      ["unknown-label", "test.jsonl:2", 'label "shoe" is not one the model knows: film'],
      ["unknown-label", "test.jsonl:3", 'label "films" is not one the model knows: fil'],
    ]);
    expect(report.faults[2]!.hint).toBe('did you mean "film"?');
  });

  test("one label only", () => {
    expect(check(good.slice(0, 2)).faults).toMatchObject([
      { kind: "bad-value", where: "train.jsonl", message: 'all rows have the label "hat"' },
    ]);
  });

  test("all are counted, the first are listed", () => {
    const report = check([...good, ...good, ...good], undefined, 2);
    expect([report.fault_count, report.faults.length]).toEqual([6, 2]);
  });

  test("uneven labels are remarked", () => {
    const rows = [...Array.from({ length: 30 }, (_, i) => ({ text: `t${i}`, label: "much" })), { text: "x", label: "rare" }];
    expect(check(rows).notes).toEqual([expect.stringContaining("much has 30 rows, rare 1"), "fewer than 5 rows: rare (1)"]);
  });

  test("float labels are numbers to predict, not labels", () => {
    expect(check(good.map(({ text }, i) => ({ text, label: i / 2 })))).toMatchObject({ fault_count: 0, train: { labels: null } });
  });
});

test("guessColumns goes by spelling first", () => {
  expect(guessColumns(table([{ Text: "a", tag: "x" }]), ["text"])).toEqual(new Map([["text", "Text"]]));
});

test("lengthsOf", () => {
  const lengths = [...Array.from({ length: 19 }, (_, i) => i + 1), 100];
  expect(lengthsOf(lengths, 50, 5)).toEqual({
    ...{ min: 1, median: 11, mean: 14.5, p95: 100, max: 100, limit: 50, cut: 1 },
    histogram: [
      { from: 1, to: 20, count: 19 },
      { from: 21, to: 40, count: 0 },
      { from: 41, to: 60, count: 0 },
      { from: 61, to: 80, count: 0 },
      { from: 81, to: 100, count: 1 },
    ],
  });
  expect(lengthsOf([], 50)).toBeNull();
});
