import { normal } from "../core/initializer.js";
import type { Head } from "./family.js";

/** The output layer over the vocabulary, without a bias; where the model ties it, the table of word embeddings `table` serves for it. */
export function causalHead<C extends { readonly tie_word_embeddings: boolean }>(table: string): Head<C> {
  return {
    modules: [],
    output: "lm_head",
    build: (m, hidden, outputs, c) =>
      m.linear("lm_head", hidden, "head", outputs, { bias: false, tied: c.tie_word_embeddings ? `${table}.weight` : undefined }),
  };
}

/** The head over the last token of each text: a linear layer without a bias, which starts fresh. */
export function lastTokenHead<C extends { readonly initializer_range: number }>(): Head<C> {
  return {
    modules: ["score"],
    output: "score",
    build: (m, hidden, outputs, c) => m.linear("score", hidden, "head", outputs, { bias: false, init: normal(c.initializer_range) }),
  };
}

/** The head over each token: dropout and a linear layer at `path`. */
export function eachTokenHead<C extends { readonly initializer_range: number }>(path: string, dropout: (config: C) => number): Head<C> {
  return {
    modules: [path],
    output: path,
    build: (m, hidden, outputs, c) =>
      m.linear(path, m.dropout(path, hidden, dropout(c)), "head", outputs, { init: normal(c.initializer_range) }),
  };
}
