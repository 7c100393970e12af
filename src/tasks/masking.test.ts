import { describe, expect, it } from "vitest";
import { keyOf, randomInt } from "../core/random.js";
import { maskablePlaces, maskText } from "./masking.js";

const tokenizer = { maskId: 4, specialIds: new Set([0, 1, 2, 3, 4]), vocabSize: 100 };
const long = Int32Array.from({ length: 20_000 }, (_, i) => (i === 0 ? 2 : i === 19_999 ? 3 : 5 + randomInt(95, keyOf(7), i)));

describe("maskText", () => {
  const { ids, places, tokens } = maskText(long, tokenizer, keyOf(0, "a"));

  it("chooses 15 % of the tokens: 80 % become the mask, 10 % a random one, 10 % stay", () => {
    // ± 4 standard deviations of the binomial distributions
    expect(Math.abs(places.length / 19_998 - 0.15)).toBeLessThan(4 * Math.sqrt((0.15 * 0.85) / 19_998));
    const share = (test: (place: number) => boolean): number => places.filter(test).length / places.length;
    const slack = (p: number): number => 4 * Math.sqrt((p * (1 - p)) / places.length);
    expect(Math.abs(share((place) => ids[place] === 4) - 0.8 - 0.1 / 100)).toBeLessThan(slack(0.8));
    // one random token in a hundred is the one that stood there
    expect(Math.abs(share((place) => ids[place] === long[place]) - 0.1 - 0.1 / 100)).toBeLessThan(slack(0.1));
    const drawn = places.map((place) => ids[place]!).filter((id, i) => id !== 4 && id !== tokens[i]);
    expect(Math.abs(drawn.length / places.length - 0.1)).toBeLessThan(slack(0.1));
    expect(new Set(drawn).size).toBeGreaterThan(80); // the whole vocabulary, special tokens too
    expect(drawn.some((id) => id < 4)).toBe(true);
  });

  it("says what stood there, and leaves everything else alone", () => {
    expect(tokens).toEqual(places.map((place) => long[place]));
    const chosen = new Set(places);
    expect(long.every((id, place) => chosen.has(place) || ids[place] === id)).toBe(true);
    expect([...places].sort((a, b) => a - b)).toEqual(places);
  });

  it("draws the same for the same key, and anew for another", () => {
    expect(maskText(long, tokenizer, keyOf(0, "a"))).toEqual({ ids, places, tokens });
    expect(maskText(long, tokenizer, keyOf(0, "b")).places).not.toEqual(places);
  });

  it("never chooses special tokens, and always something", () => {
    const short = Int32Array.of(2, 1, 50, 3);
    for (let i = 0; i < 200; i++) expect(maskText(short, tokenizer, keyOf(i)).places).toEqual([2]);
    expect(maskablePlaces(Int32Array.of(2, 1, 4, 3), tokenizer)).toEqual([]);
  });
});
