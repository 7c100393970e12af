import { describe, expect, it } from "vitest";
import { entities, entityScores } from "./entities.js";

describe("entities, as seqeval's default mode reads them", () => {
  it.each<[tags: string, spans: readonly string[]]>([
    ["O O", []],
    ["", []],
    ["B-PER", ["PER:0-0"]],
    ["B-PER I-PER O B-LOC", ["PER:0-1", "LOC:3-3"]],
    ["B-PER B-PER", ["PER:0-0", "PER:1-1"]],
    ["B-PER I-PER B-PER I-PER", ["PER:0-1", "PER:2-3"]],
    ["I-PER I-PER O", ["PER:0-1"]], // I without B starts one
    ["O I-LOC", ["LOC:1-1"]],
    ["B-PER I-LOC I-LOC", ["PER:0-0", "LOC:1-2"]], // so does I of another type
    ["I-PER I-LOC", ["PER:0-0", "LOC:1-1"]],
    ["B-PER O I-PER", ["PER:0-0", "PER:2-2"]],
    ["B-first-name I-first-name", ["first-name:0-1"]], // types may have dashes
    ["O B-PER I-PER", ["PER:1-2"]],
  ])("%s", (tags, spans) => {
    expect(entities(tags === "" ? [] : tags.split(" "))).toEqual(spans);
  });
});

describe("entityScores", () => {
  const rows = (...texts: readonly string[]): string[][] => texts.map((text) => text.split(" "));

  it("counts whole entities: type and both ends", () => {
    const truth = rows("B-PER I-PER O B-LOC", "O B-ORG O");
    expect(entityScores(truth, truth)).toEqual({ precision: 1, recall: 1, f1: 1 });
    // one of three right, two more found: a shorter one and one of another type
    expect(entityScores(truth, rows("B-PER O O B-LOC", "O B-PER O"))).toEqual({ precision: 1 / 3, recall: 1 / 3, f1: 1 / 3 });
  });

  it("pools over all rows", () => {
    const scores = entityScores(rows("B-PER O B-LOC O", "B-ORG O"), rows("B-PER O O O", "O O"));
    expect(scores.precision).toBe(1);
    expect(scores.recall).toBeCloseTo(1 / 3, 12);
    expect(scores.f1).toBeCloseTo(0.5, 12);
    expect(entityScores(rows("B-PER O"), rows("B-PER B-PER"))).toEqual({ precision: 0.5, recall: 1, f1: 2 / 3 });
  });

  it("keeps rows apart", () => {
    expect(entityScores(rows("B-PER O", "O O"), rows("O O", "B-PER O"))).toEqual({ precision: 0, recall: 0, f1: 0 });
  });

  it("takes I- for B- where both start an entity", () => {
    expect(entityScores(rows("B-PER I-PER"), rows("I-PER I-PER"))).toEqual({ precision: 1, recall: 1, f1: 1 });
  });

  it("never gives NaN", () => {
    const none = { precision: 0, recall: 0, f1: 0 };
    expect(entityScores([], [])).toEqual(none);
    expect(entityScores(rows("O"), rows("O"))).toEqual(none);
    expect(entityScores(rows("B-PER"), rows("O"))).toEqual(none);
    expect(entityScores(rows("O"), rows("B-PER"))).toEqual(none);
  });
});
