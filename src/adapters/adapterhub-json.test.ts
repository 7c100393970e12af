import { expect, it } from "vitest";
import { hubJson } from "./adapterhub-json.js";

const text = (value: unknown): string => new TextDecoder().decode(hubJson(value));

it("sorts keys at all depths, two spaces deep, and leaves out what is undefined", () => {
  expect(text({ b: { d: 1, c: [{ f: null, e: true }] }, a: "x", z: undefined })).toBe(
    '{\n  "a": "x",\n  "b": {\n    "c": [\n      {\n        "e": true,\n        "f": null\n      }\n    ],\n    "d": 1\n  }\n}\n',
  );
});

it("gives scaling a point, in whatever place, and no other number or text", () => {
  const written = text({ config: { scaling: 4, other_scaling: 4, r: 1, up: 3 }, last: { scaling: -1 } });
  expect(written).toContain('"scaling": 4.0,');
  expect(written).toContain('"scaling": -1.0\n');
  expect(written).toContain('"other_scaling": 4,');
  expect(written).toContain('"r": 1,');
  expect(text({ a: 0, scaling: 0.5 })).toContain('"scaling": 0.5\n');
  expect(text({ scaling: "learned" })).toContain('"scaling": "learned"');
});
