import { describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { AttachError, ConfigError } from "../errors.js";
import type { LinearRole, LinearSite, Sites } from "./method.js";
import { bertLinears, bertRoles } from "./sublayer.fixture.js";
import { compactTargets, isSaved, matchTargets, patternValue, type TargetConfig } from "./targets.js";

/** The linear layers of a BERT with `layers` layers. */
function bertSites(layers: number, headModules: readonly string[] = ["classifier"]): Sites {
  const site = (path: string, role: LinearRole): LinearSite => ({ path, role, inFeatures: 4, outFeatures: 4, bias: true });
  const linears = Array.from({ length: layers }, (_, i) => bertLinears(i, 4)).flat();
  linears.push(site("bert.pooler.dense", "pooler"), site("classifier", "head"));
  return { linears, tables: [], outputTables: [], sublayers: [], tokens: [], embeddings: [], attentions: [], weights: [], headModules };
}

const sites = bertSites(12);
const none: TargetConfig = {
  target_modules: null,
  exclude_modules: null,
  layers_to_transform: null,
  layers_pattern: null,
  modules_to_save: null,
};
const match = (config: Partial<TargetConfig>, origin: "user" | "file" = "user"): readonly string[] =>
  matchTargets(sites, { ...none, ...config }, ["query", "value"], origin).map(({ path }) => path);
const layer = (i: number, ...names: readonly string[]): readonly string[] => names.map((name) => `bert.encoder.layer.${i}.${name}`);
const everywhere = (...names: readonly string[]): readonly string[] => Array.from({ length: 12 }, (_, i) => layer(i, ...names)).flat();

describe("matchTargets", () => {
  it("takes the default roles without target_modules", () => {
    expect(match({})).toEqual(everywhere("attention.self.query", "attention.self.value"));
  });

  it("matches a list's entries as suffixes at a dot boundary", () => {
    expect(match({ target_modules: ["key"] })).toEqual(everywhere("attention.self.key"));
    expect(match({ target_modules: ["output.dense"] })).toEqual(everywhere("attention.output.dense", "output.dense"));
    expect(match({ target_modules: ["attention.output.dense"] })).toEqual(everywhere("attention.output.dense"));
    expect(match({ target_modules: ["dense"] })).toHaveLength(12 * 3 + 1);
  });

  it.each([["ey"], ["self.quer"], ["query.weight"], [".*query"], ["bert"]])("does not match %s", (target) => {
    expect(() => match({ target_modules: [target] })).toThrow(AttachError);
  });

  it("matches a text as a regular expression of the whole path", () => {
    expect(match({ target_modules: ".*\\.(query|key)" })).toEqual(everywhere("attention.self.query", "attention.self.key"));
    expect(match({ target_modules: "bert\\.encoder\\.layer\\.[01]\\..*query" })).toEqual([
      ...layer(0, "attention.self.query"),
      ...layer(1, "attention.self.query"),
    ]);
    expect(match({ target_modules: "x|.*pooler.dense" })).toEqual(["bert.pooler.dense"]);
    expect(() => match({ target_modules: "query" })).toThrow(/"query" match no linear layer/);
    expect(() => match({ target_modules: ".*quer" })).toThrow(AttachError);
  });

  it.each(["all-linear", "All-Linear"])("takes every layer but the head for %s", (target) => {
    expect(match({ target_modules: target })).toEqual(sites.linears.flatMap(({ path }) => (path === "classifier" ? [] : [path])));
  });

  it("leaves exclude_modules out, named in the same two ways", () => {
    expect(match({ exclude_modules: ["value"] })).toEqual(everywhere("attention.self.query"));
    expect(match({ exclude_modules: ["alue", "layer.0"] })).toHaveLength(24);
    expect(match({ exclude_modules: ".*\\.layer\\.\\d+\\..*value" })).toEqual(everywhere("attention.self.query"));
    expect(match({ exclude_modules: "value" })).toHaveLength(24);
    expect(match({ target_modules: "all-linear", exclude_modules: ["dense"] })).toEqual(
      everywhere("attention.self.query", "attention.self.key", "attention.self.value"),
    );
  });

  it("leaves modules_to_save and the head out", () => {
    const targets = { target_modules: ["dense", "classifier"] };
    expect(match(targets, "file")).not.toContain("classifier");
    expect(match({ ...targets, modules_to_save: ["pooler"] }, "file")).not.toContain("bert.pooler.dense");
    expect(match({ ...targets, modules_to_save: ["output"] }, "file")).toEqual([...everywhere("intermediate.dense"), "bert.pooler.dense"]);
  });

  it("filters by layers_to_transform, but not exact paths", () => {
    expect(match({ layers_to_transform: 1 })).toEqual(layer(1, "attention.self.query", "attention.self.value"));
    expect(match({ target_modules: ["key"], layers_to_transform: [1, 11] })).toEqual([
      ...layer(1, "attention.self.key"),
      ...layer(11, "attention.self.key"),
    ]);
    const exact = "bert.encoder.layer.5.attention.self.key";
    expect(match({ target_modules: [exact, "value"], layers_to_transform: 0 })).toEqual([...layer(0, "attention.self.value"), exact]);
    expect(match({ target_modules: ["dense"], layers_to_transform: [0] })).not.toContain("bert.pooler.dense"); // has no number
  });

  it("takes an empty layers_to_transform for no filter, as PEFT", () => {
    expect(match({ layers_to_transform: [] })).toHaveLength(24);
  });

  it("counts by layers_pattern", () => {
    const one = layer(1, "attention.self.query", "attention.self.value");
    expect(match({ layers_to_transform: 1, layers_pattern: "layer" })).toEqual(one);
    expect(match({ layers_to_transform: 1, layers_pattern: ["h", "layer"] })).toEqual(one);
    expect(match({ layers_to_transform: 1, layers_pattern: [] })).toEqual(one);
    expect(match({ layers_to_transform: 1, layers_pattern: "" })).toEqual(one);
    expect(() => match({ layers_to_transform: 1, layers_pattern: "h" })).toThrow(AttachError);
    expect(() => match({ layers_to_transform: 1, layers_pattern: "ayer" })).toThrow(AttachError);
  });

  it("takes the first number of a path with two", () => {
    const expert = "model.layers.3.experts.0.up";
    const moe: Sites = { ...sites, linears: [{ path: expert, role: "up", inFeatures: 4, outFeatures: 4, bias: true }] };
    const config = { ...none, target_modules: ["up"] };
    expect(matchTargets(moe, { ...config, layers_to_transform: 3 }, [], "user")).toHaveLength(1);
    expect(() => matchTargets(moe, { ...config, layers_to_transform: 0 }, [], "user")).toThrow(AttachError);
    expect(matchTargets(moe, { ...config, layers_to_transform: 0, layers_pattern: "experts" }, [], "user")).toHaveLength(1);
  });

  it("that match nothing lists the roles with an example path each", async () => {
    const error = await failure(() => match({ target_modules: ["q_proj"] }));
    expect(error).toBeInstanceOf(AttachError);
    expect(error.message).toBe('target_modules ["q_proj"] match no linear layer of this model');
    for (const [name, role] of Object.entries(bertRoles)) expect(error.hint).toContain(`bert.encoder.layer.0.${name} (${role})`);
    expect(error.hint).toContain("bert.pooler.dense (pooler)");
    expect(error.hint).not.toContain("classifier");
    expect(error.hint).toContain('"all-linear"');
  });

  it("of which a user's entry matches nothing names it and the nearest; a file's is passed over, as in Python", async () => {
    const targets = ["query", "vlaue", "q_proj"];
    const error = await failure(() => match({ target_modules: targets }));
    expect(error).toBeInstanceOf(AttachError);
    expect(error.message).toContain('"vlaue", "q_proj" match no linear layer');
    expect(error.message).not.toContain('"query"');
    expect(error.hint).toContain('did you mean "value"');
    expect(match({ target_modules: targets }, "file")).toEqual(everywhere("attention.self.query"));
    expect(() => match({ target_modules: ["q_proj"] }, "file")).toThrow(AttachError);
  });

  it("refuses what is no regular expression", () => {
    expect(() => match({ target_modules: "(query" })).toThrow(ConfigError);
    expect(() => match({ target_modules: "(query" })).toThrow(/"\(query" is not a regular expression/);
    expect(() => match({ exclude_modules: "[" })).toThrow(ConfigError);
  });
});

describe("patternValue", () => {
  const path = "bert.encoder.layer.0.attention.self.query";

  it.each<[pattern: Record<string, number>, value: number]>([
    [{}, 8],
    [{ query: 2 }, 2],
    [{ "self.query": 2 }, 2],
    [{ [path]: 2 }, 2],
    [{ uery: 2 }, 8], // not at a dot boundary
    [{ "layer.0": 2 }, 8], // not at the end
    [{ "bert.encoder": 2 }, 8],
    [{ self: 2 }, 8],
    [{ "layer.0.*": 2 }, 2], // a regular expression
    [{ "layer.1.*": 2 }, 8],
    [{ "layer\\.0\\..*": 2 }, 2],
    [{ "self.q.ery": 2 }, 2], // "." is any character
    [{ "^bert.*query": 2 }, 2],
    [{ "^query": 2 }, 8],
    [{ "key|query": 2 }, 2],
    [{ "layer.[0-3].*": 3, query: 2 }, 3], // the first wins
    [{ query: 2, "layer.[0-3].*": 3 }, 2],
    [{ key: 3, query: 2 }, 2],
  ])("of %j is %i", (pattern, value) => {
    expect(patternValue(path, pattern, 8)).toBe(value);
  });

  it("refuses what is no regular expression", () => {
    expect(() => patternValue(path, { "*query": 2 }, 8)).toThrow(/"\*query" is not a regular expression/);
  });
});

describe("isSaved", () => {
  it("looks at the ends of a path's parents, without a dot boundary", () => {
    expect(isSaved("classifier", ["classifier"])).toBe(true);
    expect(isSaved("classifier.out_proj", ["classifier"])).toBe(true);
    expect(isSaved("pre_classifier", ["classifier"])).toBe(true);
    expect(isSaved("bert.pooler.dense", ["pooler"])).toBe(true);
    expect(isSaved("bert.pooler.dense", ["pooler.dense"])).toBe(true);
    expect(isSaved("bert.pooler.dense", ["pool"])).toBe(false);
    expect(isSaved("classifiers", ["classifier"])).toBe(false);
    expect(isSaved("bert.pooler.dense", [])).toBe(false);
  });
});

describe("compactTargets", () => {
  const compact = (config: Partial<TargetConfig>): readonly string[] =>
    compactTargets(matchTargets(sites, { ...none, ...config }, ["query", "value"], "user"), sites);

  it("gives last names where they match exactly these layers", () => {
    expect(compact({})).toEqual(["query", "value"]);
    expect(compact({ target_modules: "all-linear" })).toEqual(["dense", "key", "query", "value"]);
  });

  it("gives whole paths where last names match more", () => {
    expect(compact({ layers_to_transform: 11 })).toEqual(layer(11, "attention.self.query", "attention.self.value"));
    expect(compact({ target_modules: ["attention.output.dense"] })).toEqual([...everywhere("attention.output.dense")].sort());
  });

  it("gives names that match the same layers again", () => {
    for (const config of [{}, { target_modules: "all-linear" }, { target_modules: ["output.dense"] }, { layers_to_transform: [2, 10] }]) {
      const matched = matchTargets(sites, { ...none, ...config }, ["query", "value"], "user");
      const again = matchTargets(sites, { ...none, target_modules: compactTargets(matched, sites) }, [], "file");
      expect(again).toEqual(matched);
    }
  });
});
