import { expect, it } from "vitest";
import { parseOptions } from "../core/options.js";
import { head } from "./head.js";
import { methodOfType } from "./index.js";
import { layerSites } from "./sublayer.fixture.js";

it("trains no weight of the base and adds nothing to it", () => {
  expect(head.plan(layerSites(1, 4), head.config.parse({}), "user", [])).toBeNull();
  for (const handler of ["trains", "linear", "sublayer", "embedding", "keyValue", "tokens"] as const) expect(head[handler]).toBeUndefined();
});

it("takes modules to save and nothing else", () => {
  expect(head.config.parse({ modules_to_save: ["pooler"] })).toEqual({ modules_to_save: ["pooler"] });
  expect(() => parseOptions("head option", head.config, { r: 8 })).toThrow('head option "r" is not known');
});

it("publishes the head under the base's own names", () => {
  expect(methodOfType("HEAD")).toBe(head);
  expect(head.files.key("classifier.weight", null)).toBe("classifier.weight");
});
