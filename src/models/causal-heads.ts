import { normal } from "../core/initializer.js";
import type { Head } from "./family.js";

/**
 * The output layer over the vocabulary, without a bias; where the model ties it, the word embeddings serve for it. `backbone` and `words` are
 * the backbone's path and that of the embeddings.
 */
export function causalHead<C extends { readonly tie_word_embeddings: boolean }>(backbone: string, words: string): Head<C> {
  return {
    modules: [],
    output: `${words}.weight`,
    build: (m, hidden, outputs, c) =>
      m.linear("lm_head", m.unembedded(backbone, hidden), "head", outputs, {
        bias: false,
        tied: c.tie_word_embeddings ? `${words}.weight` : undefined,
      }),
  };
}

/** The head over the last token of each text: a linear layer without a bias, which starts fresh. */
export function lastTokenHead<C extends { readonly initializer_range: number }>(): Head<C> {
  return {
    modules: ["score"],
    output: "score.weight",
    layered: () => ({ indices: { score: 1 }, layers: 1, activation: null, pooler: false }),
    build: (m, hidden, outputs, c) => m.linear("score", hidden, "head", outputs, { bias: false, init: normal(c.initializer_range) }),
  };
}

/** The head over each token: dropout and a linear layer at `path`. */
export function eachTokenHead<C extends { readonly initializer_range: number }>(path: string, dropout: (config: C) => number): Head<C> {
  return {
    modules: [path],
    output: `${path}.weight`,
    layered: () => ({ indices: { [path]: 1 }, layers: 1, activation: null, pooler: false }),
    build: (m, hidden, outputs, c) =>
      m.linear(path, m.dropout(path, hidden, dropout(c)), "head", outputs, { init: normal(c.initializer_range) }),
  };
}
