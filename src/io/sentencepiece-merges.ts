/**
 * The merges of a SentencePiece BPE model, which has scores only: every way to put a token together from two others, best token first; among
 * ways to the same token, that of the earlier tokens first. Source: `generate_merges` of transformers' convert_slow_tokenizer.py.
 */
export function sentencePieceMerges(tokens: readonly string[], scores: readonly number[]): readonly (readonly [string, string])[] {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const merges = tokens.flatMap((token, id) => {
    const letters = [...token];
    const ways = letters.slice(1).flatMap((_, i) => {
      const [left, right] = [letters.slice(0, i + 1).join(""), letters.slice(i + 1).join("")];
      const [l, r] = [ids.get(left), ids.get(right)];
      return l === undefined || r === undefined ? [] : [{ left, right, l, r, score: scores[id]! }];
    });
    return ways.sort((a, b) => a.l - b.l || a.r - b.r);
  });
  return merges.sort((a, b) => b.score - a.score).map(({ left, right }) => [left, right]);
}
