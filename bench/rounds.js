/** The cases in turns: this program, the peer, the next case, and from the start again in the next round. */
import { runOurs, runPeer } from "./programs.js";

/**
 * @typedef {import("./cases.js").Case & { readonly model: string }} Chosen `data` is the folder itself
 * @typedef {object} RoundOptions
 * @property {number} rounds
 * @property {number | undefined} epochs whole epochs and a score, in place of a number of steps
 * @property {number} threads
 * @property {number} seed of the first round
 * @property {Readonly<Record<import("./cases.js").Case["library"], string | undefined>>} pythons
 */

/**
 * @param {readonly Chosen[]} chosen
 * @param {RoundOptions} options
 */
export async function compareAll(chosen, { rounds, epochs, threads, seed, pythons }) {
  const results = chosen.map(({ name }) => ({
    name,
    ours: /** @type {import("./programs.js").Measured[]} */ ([]),
    peer: /** @type {import("./programs.js").Measured[]} */ ([]),
  }));
  for (let round = 0; round < rounds; round++) {
    for (const [i, each] of chosen.entries()) {
      const { batch, maxLength, steps } = each.sizes;
      const setting = {
        ...{ model: each.model, data: each.data, batch, maxLength, threads, seed: seed + round },
        ...{ steps: epochs === undefined ? steps : 0, epochs: epochs ?? 0 },
      };
      const result = /** @type {(typeof results)[number]} */ (results[i]);
      result.ours.push(await runOurs(setting, each.ours));
      const python = pythons[each.library];
      if (python !== undefined) result.peer.push(await runPeer(setting, each.peer, python));
      console.error(
        `round ${round + 1}  ${each.name}  ${[result.ours, result.peer].map((s) => s.at(-1)?.rows_per_second.toFixed(0) ?? "–").join(" / ")} rows/s`,
      );
    }
  }
  return results;
}
