import { expect, it } from "vitest";
import { parseOptions } from "../core/options.js";
import { full } from "./full.js";
import { methodOfType } from "./index.js";
import { layerSites } from "./sublayer.fixture.js";

it("trains every weight", () => {
  const plan = full.plan(layerSites(1, 4), {}, "user", []);
  for (const path of ["bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.output.LayerNorm.bias"])
    expect(full.trains!({ path, shape: [4] }, plan, {})).toBe(true);
});

it("takes no option", () => {
  for (const name of ["modules_to_save", "r", "train"])
    expect(() => parseOptions("full option", full.config, { [name]: [] })).toThrow(`full option "${name}" is not known`);
});

it("publishes weights under the base's own names", () => {
  expect(methodOfType("FULL")).toBe(full);
  expect(full.files.key("bert.pooler.dense.weight", null)).toBe("bert.pooler.dense.weight");
});
