import { describe, expect, it } from "vitest";
import { cellName, estimateSeconds, rounds, secondsIn, workOf } from "./plan.js";

it("runs seed after seed, in each from the largest size down, all methods in a round", () => {
  const names = rounds(["a", "b"], [0, 1], [10, 100, 100]).map((round) => round.map(cellName));
  expect(names).toEqual([
    ["a-seed0-rows100", "b-seed0-rows100"],
    ["a-seed0-rows10", "b-seed0-rows10"],
    ["a-seed1-rows100", "b-seed1-rows100"],
    ["a-seed1-rows10", "b-seed1-rows10"],
  ]);
});

describe("estimates", () => {
  const timings = [
    { method: "a", work: 100, seconds: 10 },
    { method: "a", work: 100, seconds: 30 },
    { method: "b", work: 50, seconds: 20 },
  ];
  it("take a method's own rate, else the slowest one's", () => {
    expect(estimateSeconds("a", 50, timings)).toBeCloseTo(10, 12);
    expect(estimateSeconds("b", 50, timings)).toBeCloseTo(20, 12);
    expect(estimateSeconds("c", 50, timings)).toBeCloseTo(20, 12);
    expect(estimateSeconds("a", 50, [])).toBeNull();
  });
  it("count a judged row as a third of a trained one", () => expect(workOf(30, 9)).toBe(33));
});

it.each([
  ["90s", 90],
  ["30m", 1800],
  ["1h30m", 5400],
  ["1.5h", 5400],
  ["half an hour", undefined],
  ["", undefined],
  ["30", undefined],
])("a budget of %s is %s seconds", (text, seconds) => expect(secondsIn(text)).toBe(seconds));
