import { describe, expect, it } from "vitest";
import { jsonScores } from "./json-scores.js";

describe("jsonScores", () => {
  const wanted = '{"intent": "PlayMusic", "slots": {"artist": "Can", "year": 1971}}';

  it("takes texts for equal whatever the order of keys, list entries and white space", () => {
    const texts = ['{"slots":{"year":1971,"artist":"Can"},"intent":"PlayMusic"}', '{"a": ["y", "x", "x"]}'];
    expect(jsonScores(texts, [wanted, '{"a": ["x", "x", "y"]}'])).toEqual({ valid_json: 1, field_f1: 1 });
  });

  it("counts fields of all rows together: missing, wrong and added ones lower F1", () => {
    const texts = ['{"intent": "PlayMusic", "slots": {"artist": "Neu!"}}', '{"a": 1, "b": 2}'];
    // 3 + 1 wanted, 2 + 2 found, of which "intent" and "a" agree
    expect(jsonScores(texts, [wanted, '{"a": 1}'])).toEqual({ valid_json: 1, field_f1: 0.5 });
  });

  it("tells a number from a string, a path from another, and counts a repeated value as often as it is wanted", () => {
    expect(jsonScores(['{"a": "1"}'], ['{"a": 1}'])?.field_f1).toBe(0);
    expect(jsonScores(['{"a": {"b": 1}}'], ['{"b": {"a": 1}}'])?.field_f1).toBe(0);
    expect(jsonScores(['{"a": ["x", "x"]}'], ['{"a": ["x"]}'])?.field_f1).toBeCloseTo(2 / 3);
  });

  it("gives a text that is no JSON object no fields", () => {
    expect(jsonScores(["{", "[1]", "null", wanted], [wanted, wanted, wanted, wanted])).toEqual({ valid_json: 0.25, field_f1: 6 / 15 });
  });

  it("says nothing where an answer is not a JSON object", () => {
    expect(jsonScores([wanted, "yes"], [wanted, "yes"])).toBeUndefined();
    expect(jsonScores(["{}"], ["[]"])).toBeUndefined();
  });
});
