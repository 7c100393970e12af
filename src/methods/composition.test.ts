import { describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { AttachError, ConfigError } from "../errors.js";
import { average } from "./average.js";
import { bitfit } from "./bitfit.js";
import { adapter, sites } from "./composition.fixture.js";
import { leaves } from "./composition.js";
import { full } from "./full.js";
import { fuse } from "./fuse.js";
import { head } from "./head.js";
import { ia3 } from "./ia3.js";
import { compositionOfType } from "./index.js";
import { lora } from "./lora.js";
import type { Child, Method } from "./method.js";
import { pTuning } from "./p-tuning.js";
import { prefixTuning } from "./prefix-tuning.js";
import { promptTuning } from "./prompt-tuning.js";
import { stack } from "./stack.js";
import { attachmentOn } from "./sublayer.fixture.js";

const child = (name: string, method: Method, fields: object = {}, held: readonly Child[] = []): Child => ({
  name,
  trained: false,
  attachment: attachmentOn(sites, method, fields, held),
});
const plan = (method: Method, ...children: readonly Child[]): unknown => attachmentOn(sites, method, {}, children).plan;
const [a, b, c] = [adapter("a", 2), adapter("b", 1), adapter("c", 4)];
const wide = child("wide", lora, { target_modules: ["query"] });

describe.each([stack, average, fuse])("$name", (method) => {
  it("holds two adapters or more, of any widths", () => {
    expect(plan(method, a, b, c)).toEqual({ children: [a, b, c] });
    expect(() => plan(method, a)).toThrow(`${method.name} needs two adapters or more, not 1`);
    expect(() => plan(method)).toThrow(`${method.name} needs two adapters or more, not 0`);
  });

  it("refuses two of one name, also further down", () => {
    expect(() => plan(method, a, adapter("a", 1))).toThrow(/two adapters are named "a"/);
    if (method !== stack) expect(() => plan(method, child("s", stack, {}, [a, b]), adapter("b", 4))).toThrow(/two adapters are named "b"/);
  });

  it("lists all adapters that cannot be held, with the reason", async () => {
    const unfit = [child("p", promptTuning), child("pre", prefixTuning), child("pt", pTuning), child("f", full), child("bits", bitfit)];
    const error = await failure(() => plan(method, a, ...unfit));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain(`cannot be composed by ${method.name}`);
    for (const name of ["p: prompt-tuning", "pre: prefix-tuning", "pt: p-tuning"])
      expect(error.message).toContain(`\n  ${name} changes what attention reads`);
    for (const name of ["f: full", "bits: bitfit"]) expect(error.message).toContain(`\n  ${name} changes the base's own weights`);
    expect(error.message).not.toMatch(/\n {2}a:/);
    expect(error.hint).toContain("adapter layers");
  });

  it("is found by its type in adapter_setup.json", () => {
    expect("setup" in method.files && compositionOfType(method.files.setup)).toBe(method);
  });
});

describe("LoRA and IA3", () => {
  it("stand in a stack, and in no other composition", () => {
    expect(plan(stack, wide, a)).toEqual({ children: [wide, a] });
    for (const method of [average, fuse]) {
      expect(() => plan(method, wide, a)).toThrow(`wide: ${method.name} takes adapter layers, not lora`);
      expect(() => plan(method, a, child("i", ia3, { target_modules: ["query"], feedforward_modules: [] }))).toThrow(/not ia3/);
    }
  });

  it("are all that does: a head alone does not", () => {
    expect(() => plan(stack, a, child("h", head))).toThrow("h: stack takes adapter layers, not head");
  });

  it("whose biases are trained change the base, and stand nowhere", () => {
    const biases = child("l", lora, { target_modules: ["query"], bias: "all" });
    expect(() => plan(stack, biases, a)).toThrow("l: lora changes the base's own weights");
  });
});

describe("compositions in compositions", () => {
  const fused = child("f", fuse, {}, [a, b]);
  const mean = child("m", average, {}, [a, b]);
  const pile = child("s", stack, {}, [a, b]);

  it("are those that AdapterHub takes", () => {
    for (const inner of [fused, mean]) expect(plan(stack, inner, c)).toEqual({ children: [inner, c] });
    for (const method of [average, fuse]) expect(plan(method, pile, c)).toEqual({ children: [pile, c] });
  });

  it("that it does not take are refused by name", () => {
    expect(() => plan(stack, pile, c)).toThrow("stack: stack can hold fuse, average");
    for (const method of [average, fuse])
      for (const inner of [fused, mean])
        expect(() => plan(method, inner, c)).toThrow(`${inner.attachment.method.name}: ${method.name} can hold stack`);
  });

  it("lose none of their adapters' names", () => {
    expect(leaves(child("s", stack, {}, [fused, c])).map(({ name }) => name)).toEqual(["a", "b", "c"]);
  });

  it("of another type are refused with those there are", async () => {
    const error = await failure(() => compositionOfType("Parallel"));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toBe('composition "Parallel" is not supported');
    for (const name of ["Stack", "Average", "Fuse"]) expect(error.hint).toContain(name);
  });
});

describe("adapters of different places", () => {
  const attention = adapter("attention", 2, { mh_adapter: true });
  const first = adapter("first", 2, { leave_out: [1] });

  it("stand in a stack", () => {
    expect(plan(stack, a, attention, first)).toEqual({ children: [a, attention, first] });
  });

  it.each([
    [average, [a, attention]],
    [fuse, [attention, a]],
  ] as const)("cannot be computed by $name where the one that prepares the input has none", async (method, children) => {
    const error = await failure(() => plan(method, ...children));
    expect(error).toBeInstanceOf(AttachError);
    for (const layer of [0, 1]) expect(error.message).toContain(`\n  bert.encoder.layer.${layer}.attention.output: `);
    expect(error.message).not.toContain("bert.encoder.layer.0.output");
  });
});
