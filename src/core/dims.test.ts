import { describe, expect, it } from "vitest";
import { ShapeError } from "../errors.js";
import { type Dim, dim, dimAdd, dimMul, dimTerms, dimValue } from "./dims.js";

describe("dim", () => {
  it.each<[Dim, Dim]>([
    [7, 7],
    ["7", 7],
    ["T", "T"],
    ["1+T-1", "T"],
    ["S*B", "B*S"],
    ["T*2", "2*T"],
    ["T+T", "2*T"],
    ["1+S", "S+1"],
    ["S+B", "B+S"],
    ["B*S+5-B*S", 5],
    ["T-T", 0],
    ["2*T-3*T", "-1*T"],
    ["0*T+4", 4],
    ["T-5", "T-5"],
    ["-5+T", "T-5"],
    ["2*S*3*B", "6*B*S"],
    ["S*S+S", "S+S*S"],
    ["kv_1*B", "B*kv_1"],
  ])("writes %s as %s", (text, normal) => {
    expect(dim(text)).toBe(normal);
    expect(dim(normal)).toBe(normal);
  });

  it.each(["", "T+", "+T", "T++S", "1.5", "T/2", "a b", "2T", "T*", "(T+1)"])("refuses %j", (text) => {
    expect(() => dim(text)).toThrow(ShapeError);
    expect(() => dim(text)).toThrow(`"${text}" is not a size: expected a number or a sum of products of names, such as "B*S+1"`);
  });
});

describe("dimAdd and dimMul", () => {
  it("add and multiply polynomials", () => {
    expect(dimAdd()).toBe(0);
    expect(dimAdd("T", 2, "-1*T")).toBe(2);
    expect(dimAdd("S+5", "B*S", -5)).toBe("B*S+S");
    expect(dimMul()).toBe(1);
    expect(dimMul("B", 3, "S", 4)).toBe("12*B*S");
    expect(dimMul("S+1", "S-1")).toBe("S*S-1");
    expect(dimMul("B+S", -2)).toBe("-2*B-2*S");
    expect(dimMul("T", 0)).toBe(0);
  });

  it("give one text for equal sizes, whatever the way there", () => {
    expect(dimMul(dimAdd("S", 5), "B")).toBe(dimAdd(dimMul("B", 5), dimMul("S", "B")));
    expect(dimMul("B*S", "H")).toBe(dimMul("H*B", "S"));
  });
});

describe("dimValue", () => {
  it("puts numbers in for symbols", () => {
    expect(dimValue(9, {})).toBe(9);
    expect(dimValue("2*B*S-T+5", { B: 3, S: 4, T: 7 })).toBe(22);
    expect(dimValue("S*S", { S: 5 })).toBe(25);
  });

  it("names the symbol that is not known, and those that are", () => {
    expect(() => dimValue("B*S", { B: 3, T: 4 })).toThrow(new ShapeError('size "S" in "B*S" is not known here; known: B, T'));
    expect(() => dimValue("T", {})).toThrow("known: none");
  });
});

it("dimTerms lists coefficients with their symbols", () => {
  expect(dimTerms("2*B*S-T+5")).toEqual([
    [2, ["B", "S"]],
    [-1, ["T"]],
    [5, []],
  ]);
});
