import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { packTexts } from "../data/collate.js";
import { parseJsonl, type RowTable } from "../data/rows.js";
import { loadTokenizer, type Tokenizer } from "../data/tokenizer.js";
import { DataError } from "../errors.js";
import { directory } from "../io/directory.js";
import { tokenClassification as task } from "./token-classification.js";

let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await loadTokenizer(directory(fileURLToPath(new URL("../data/fixtures/golden/bert", import.meta.url))));
});

const target = { kind: "classes", labels: ["B-LOC", "B-PER", "I-PER", "O"] } as const;
const table = (...rows: readonly object[]): RowTable => parseJsonl(rows.map((row) => JSON.stringify(row)).join("\n"), "data/tags.jsonl");
const encode = (rows: RowTable, index = 0, maxLength = 64) => task.encode(rows, index, target, tokenizer, maxLength);

const words = ["the", "skateboarding", "film", "xylophone"];
const tags = ["O", "B-PER", "I-PER", "B-LOC"];
const pieces = (word: string): number[] => [...tokenizer.encode(word, { addSpecialTokens: false }).ids];

describe("encode", () => {
  it("reads each word at its first piece, behind [CLS]", () => {
    const { ids, reads, labels, truncated } = encode(table({ tokens: words, tags }));
    const alone = words.map(pieces);
    expect(alone.some((each) => each.length > 1)).toBe(true);
    expect([...ids]).toEqual([tokenizer.clsId, ...alone.flat(), tokenizer.sepId]);
    expect(reads!.map((at) => ids[at])).toEqual(alone.map(([first]) => first));
    expect(reads![0]).toBe(1);
    expect(labels).toEqual([3, 1, 2, 0]);
    expect(truncated).toBe(false);
  });

  it("leaves out words that are cut off, with their tags; a word cut within stays", () => {
    const whole = encode(table({ tokens: words, tags }));
    for (let length = 3; length <= whole.ids.length; length++) {
      const cut = encode(table({ tokens: words, tags }), 0, length);
      expect(cut.ids.length).toBe(length);
      expect(cut.reads).toEqual(whole.reads!.filter((at) => at < length - 1));
      expect(cut.labels).toEqual(whole.labels!.slice(0, cut.reads!.length));
      expect(cut.truncated).toBe(length < whole.ids.length);
    }
  });

  it("needs no tags to predict", () => {
    expect(encode(table({ tokens: words })).labels).toBeUndefined();
    expect(encode(table({ tokens: words, tags: null })).labels).toBeUndefined();
  });

  it("says where lists do not match", async () => {
    const rows = table({ tokens: ["a", "b"], tags: ["O", "O"] }, { tokens: ["a", "b"], tags: ["O"] });
    const error = await failure(() => encode(rows, 1));
    expect(error).toBeInstanceOf(DataError);
    expect(error.message).toBe("data/tags.jsonl:2: 2 tokens but 1 tags");
  });

  it("names an unknown tag, its place and the nearest one", async () => {
    const rows = table({ tokens: ["a"], tags: ["O"] }, { tokens: ["a"], tags: ["B-PRE"] });
    const error = await failure(() => encode(rows, 1));
    expect(error).toBeInstanceOf(DataError);
    expect(error.message).toBe('data/tags.jsonl:2: tag "B-PRE" is not one the model knows: B-LOC, B-PER, I-PER, O');
    expect(error.hint).toBe('did you mean "B-PER"?');
  });

  it.each([
    [{ text: "a b" }, '"tokens" must be a list of words'],
    [{ tokens: [] }, '"tokens" must be a list of words'],
    [{ tokens: ["a", 1] }, '"tokens" must be a list of words'],
    [{ tokens: ["a"], tags: "O" }, '"tags" must be a list of tags'],
  ])("refuses %j", async (row, message) => {
    const error = await failure(() => encode(table(row)));
    expect(error).toBeInstanceOf(DataError);
    expect(error.message).toContain(`data/tags.jsonl:1: ${message}`);
  });

  it("guesses the column that is meant", async () => {
    expect((await failure(() => encode(table({ words: ["a"] })))).hint).toContain("--map tokens=words");
  });
});

describe("target", () => {
  it("has all tags of the rows, sorted", () => {
    expect(task.target(table({ tokens: ["a", "b"], tags: ["O", "B-X"] }, { tokens: ["a"], tags: ["B-A"] }))).toEqual({
      kind: "classes",
      labels: ["B-A", "B-X", "O"],
    });
  });

  it("needs tags in every row", async () => {
    const error = await failure(() => task.target(table({ tokens: ["a"], tags: ["O"] }, { tokens: ["a"] })));
    expect(error.message).toBe('data/tags.jsonl:2: no column "tags"');
    expect(error.hint).toContain("--map tags=ner_tags");
  });

  it("of a model is its id2label", () => {
    expect(task.targetOf({ id2label: { 0: "O", 1: "B-X" } }, 2)).toEqual({ kind: "classes", labels: ["O", "B-X"] });
    expect(task.targetOf({}, 2)).toEqual({ kind: "classes", labels: ["LABEL_0", "LABEL_1"] });
  });
});

describe("a batch", () => {
  it.each([0, 3])("reads the words' rows behind %i virtual tokens", (virtualTokens) => {
    const rows = table({ tokens: words, tags }, { tokens: ["film"], tags: ["O"] });
    const examples = [encode(rows, 0), encode(rows, 1)];
    const feeds = task.feeds(packTexts(examples, { virtualTokens, firstPosition: 0, summary: "first" }), examples);
    const second = examples[0]!.ids.length + 2 * virtualTokens;
    expect([...feeds.lossRows!.data]).toEqual([...examples[0]!.reads!.map((at) => virtualTokens + at), second + 1]);
    expect([...feeds.classes!.data]).toEqual([3, 1, 2, 0, 3]);
  });
});

describe("outputs", () => {
  const oneHot = (...ids: readonly number[]): Float32Array =>
    Float32Array.from(ids.flatMap((id) => [0, 1, 2, 3].map((i) => (i === id ? 9 : 0))));

  it("are judged by entity and by word", () => {
    const rows = table({ tokens: ["a", "b", "c"], tags: ["B-PER", "I-PER", "O"] }, { tokens: ["a"], tags: ["B-LOC"] });
    const examples = [encode(rows, 0), encode(rows, 1)];
    const { loss, metrics } = task.evaluate([oneHot(1, 3, 3), oneHot(0)], examples, target);
    expect(metrics).toEqual({ f1: 0.5, precision: 0.5, recall: 0.5, accuracy: 0.75 });
    const right = Math.log(1 + 3 * Math.exp(-9));
    expect(loss).toBeCloseTo((4 * right + 9) / 4, 6);
  });

  it("give a tag for each word, O for those cut off", () => {
    const rows = table({ tokens: ["a", "b", "c"] });
    expect(task.predict([oneHot(1, 2)], rows, target)).toEqual([{ tokens: ["a", "b", "c"], tags: ["B-PER", "I-PER", "O"] }]);
    expect(task.predict([oneHot(1)], rows, target, true)[0]).toMatchObject({ logits: [[0, 9, 0, 0]] });
  });
});
