import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { loadTokenizer, type Tokenizer } from "../data/tokenizer.js";
import { memoryFiles } from "../io/memory-files.js";
import { type TextStream, textStream } from "./text-stream.js";

function tokenizerOf(name: string): Promise<Tokenizer> {
  const files = ["tokenizer.json", "tokenizer_config.json"].map(
    (file) => [file, Uint8Array.from(readFileSync(new URL(`../data/fixtures/golden/${name}/${file}`, import.meta.url)))] as const,
  );
  return loadTokenizer(memoryFiles(name, Object.fromEntries(files)));
}

/** All pieces of a text's tokens, what comes at the end included. */
function pieces(stream: TextStream, ids: Iterable<number>): readonly string[] {
  return [...Array.from(ids, (id) => stream.push(id)), stream.end()];
}

describe.each(["gpt2", "llama"])("the stream of %s's tokens", (name) => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await tokenizerOf(name);
  });

  it("holds whole characters, and all of the text", () => {
    const text = "naïve 😀 café — 東京, and  two spaces\n👩‍🚀!";
    const { ids } = tokenizer.encode(text, { addSpecialTokens: false });
    const stream = textStream(tokenizer, []);
    const got = pieces(stream, ids);
    const whole = tokenizer.decode(ids, { skipSpecialTokens: true });
    expect(got.join("")).toBe(whole);
    expect(stream.text).toBe(whole);
    expect(got.filter((piece) => piece.includes("\uFFFD") !== whole.includes("\uFFFD"))).toEqual([]);
    expect(got.filter((piece) => piece !== "").length).toBeGreaterThan(10);
  });

  it("ends before the first stop string, whose beginnings are held back", () => {
    const { ids } = tokenizer.encode("one two three four", { addSpecialTokens: false });
    const stream = textStream(tokenizer, ["two three", "four"]);
    const got = pieces(stream, ids);
    expect(got.join("").trim()).toBe("one");
    expect(stream.stopped).toBe(true);
    expect(stream.text).toBe(got.join(""));
    const missed = textStream(tokenizer, ["two threads"]);
    expect(pieces(missed, ids).join("").trim()).toBe("one two three four");
    expect(missed.stopped).toBe(false);
  });

  it("leaves special tokens out, and shows a character that never came whole", () => {
    const special = [...tokenizer.specialIds][0]!;
    const { ids } = tokenizer.encode("hats", { addSpecialTokens: false });
    expect(
      pieces(textStream(tokenizer, []), [...ids, special])
        .join("")
        .trim(),
    ).toBe("hats");
  });
});

it("shows half a character only when nothing follows", async () => {
  const tokenizer = await tokenizerOf("gpt2");
  const { ids } = tokenizer.encode("a 😀", { addSpecialTokens: false });
  const stream = textStream(tokenizer, []);
  for (const id of ids.slice(0, -1)) expect(stream.push(id)).not.toContain("\uFFFD");
  expect(stream.end()).toContain("\uFFFD");
});
