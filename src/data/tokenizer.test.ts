import { readFile, stat } from "node:fs/promises";
import { beforeAll, describe, expect, it } from "vitest";
import { ConfigError, ModelError } from "../errors.js";
import type { Files } from "../io/files.js";
import { loadTokenizer, longestFirst, type Tokenizer } from "./tokenizer.js";

const fixtures = new URL("fixtures/golden/", import.meta.url);

function folder(name: string): Files {
  const url = (file: string): URL => new URL(`${name}/${file}`, fixtures);
  return {
    origin: name,
    size: (file) =>
      stat(url(file)).then(
        (info) => info.size,
        () => undefined,
      ),
    read: async (file) => new Uint8Array(await readFile(url(file))),
  };
}

function inMemory(contents: Readonly<Record<string, unknown>>): Files {
  const bytes = (name: string): Uint8Array<ArrayBuffer> | undefined => {
    const value = contents[name];
    return value === undefined ? undefined : new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));
  };
  return {
    origin: "memory",
    size: async (name) => bytes(name)?.length,
    read: async (name) => bytes(name)!,
  };
}

/** Made by tools/golden/make_truncation.py: [text, pair, max_length, add_special_tokens, ids, type ids]. */
interface Golden {
  readonly cases: readonly [string, string | null, number | null, boolean, number[] | "too short", number[]][];
  readonly decoded: readonly [number[], boolean, string][];
}

describe.each(["bert", "roberta", "gpt2", "llama"])("the %s tokenizer", (name) => {
  let tokenizer: Tokenizer;
  let golden: Golden;

  beforeAll(async () => {
    tokenizer = await loadTokenizer(folder(name));
    golden = (JSON.parse(await readFile(new URL("truncation.json", fixtures), "utf8")) as Record<string, Golden>)[name]!;
  });

  it("gives transformers' ids and types for texts and pairs at every length", () => {
    expect(golden.cases.length).toBeGreaterThan(150);
    for (const [text, pair, maxLength, addSpecialTokens, ids, types] of golden.cases) {
      const run = () => tokenizer.encode(text, { pair: pair ?? undefined, maxLength: maxLength ?? undefined, addSpecialTokens });
      const what = `${JSON.stringify([text, pair])} to ${maxLength}, special tokens ${addSpecialTokens}`;
      if (ids === "too short") expect(run, what).toThrow(ConfigError);
      else {
        const encoding = run();
        expect(Array.from(encoding.ids), what).toEqual(ids);
        expect(Array.from(encoding.typeIds), what).toEqual(types);
      }
    }
  });

  it("decodes as transformers does", () => {
    for (const [ids, skipSpecialTokens, text] of golden.decoded) expect(tokenizer.decode(ids, { skipSpecialTokens })).toBe(text);
    expect(tokenizer.decode([])).toBe("");
    expect(tokenizer.decode([1_000_000])).toBe("");
  });
});

describe("loadTokenizer", () => {
  it("knows the special ids and sizes", async () => {
    const bert = await loadTokenizer(folder("bert"));
    expect(bert).toMatchObject({
      vocabSize: 282,
      padId: 0,
      unkId: 1,
      clsId: 2,
      sepId: 3,
      maskId: 4,
      bosId: undefined,
      eosId: undefined,
      modelMaxLength: 140,
    });
    expect(bert.tokenToId("[SEP]")).toBe(3);
    expect(bert.tokenToId("nothing such")).toBeUndefined();
    expect(await loadTokenizer(folder("llama"))).toMatchObject({ vocabSize: 311, bosId: 308, eosId: 309, padId: 310, clsId: undefined });
  });

  it("cuts at the left where the config says so, and takes ids from special_tokens_map.json", async () => {
    const json = JSON.parse(await readFile(new URL("bert/tokenizer.json", fixtures), "utf8"));
    const files = { "tokenizer.json": json, "tokenizer_config.json": { truncation_side: "left", model_max_length: 1e30 } };
    const left = await loadTokenizer(inMemory({ ...files, "special_tokens_map.json": { pad_token: { content: "[PAD]" } } }));
    const right = await loadTokenizer(folder("bert"));
    const whole = right.encode("where is my parcel", { addSpecialTokens: false }).ids;
    expect(left.encode("where is my parcel", { maxLength: 5 }).ids).toEqual(Int32Array.of(2, ...whole.slice(-3), 3));
    expect(left).toMatchObject({ padId: 0, sepId: undefined, modelMaxLength: undefined });
  });

  it("says what is missing or broken", async () => {
    await expect(loadTokenizer(inMemory({}))).rejects.toThrow("memory has no tokenizer.json");
    await expect(loadTokenizer(inMemory({ "tokenizer.json": "{" }))).rejects.toThrow(ModelError);
    await expect(loadTokenizer(inMemory({ "tokenizer.json": {} }))).rejects.toThrow("memory/tokenizer.json is not as expected: model");
    const json = JSON.parse(await readFile(new URL("bert/tokenizer.json", fixtures), "utf8"));
    await expect(loadTokenizer(inMemory({ "tokenizer.json": { ...json, post_processor: { type: "New" } } }))).rejects.toThrow(
      "post-processor that is not known",
    );
    await expect(loadTokenizer(inMemory({ "tokenizer.json": { ...json, normalizer: { type: "New" } } }))).rejects.toThrow(
      "cannot use memory/tokenizer.json",
    );
  });

  it("builds BertProcessing's pairs", async () => {
    const json = JSON.parse(await readFile(new URL("bert/tokenizer.json", fixtures), "utf8"));
    const config = JSON.parse(await readFile(new URL("bert/tokenizer_config.json", fixtures), "utf8"));
    const old = { ...json, post_processor: { type: "BertProcessing", sep: ["[SEP]", 3], cls: ["[CLS]", 2] } };
    const tokenizer = await loadTokenizer(inMemory({ "tokenizer.json": old, "tokenizer_config.json": config }));
    const bert = await loadTokenizer(folder("bert"));
    expect(tokenizer.encode("one", { pair: "two words" })).toEqual(bert.encode("one", { pair: "two words" }));
  });
});

describe("longestFirst", () => {
  it("agrees with taking one token at a time from the longer text", () => {
    for (let first = 0; first < 12; first++) {
      for (let second = 0; second < 12; second++) {
        for (let room = 0; room < 24; room++) {
          let [a, b] = [first, second];
          while (a + b > room) {
            if (a > b || (a === b && first > second)) a--;
            else b--;
          }
          const cut = longestFirst(first, second, room);
          expect(cut[0] + cut[1]).toBe(a + b);
          expect(Math.abs(cut[0] - a)).toBeLessThanOrEqual(1);
        }
      }
    }
  });

  it("gives the odd token to the longer text, the second where equal", () => {
    expect(longestFirst(8, 4, 7)).toEqual([4, 3]);
    expect(longestFirst(4, 8, 7)).toEqual([3, 4]);
    expect(longestFirst(4, 4, 7)).toEqual([3, 4]);
    expect(longestFirst(2, 8, 7)).toEqual([2, 5]);
    expect(longestFirst(8, 0, 7)).toEqual([7, 0]);
  });
});
