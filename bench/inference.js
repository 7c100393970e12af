/** Predictions with an adapter: `peft predict` and `peft evaluate` against `transformers`, on the same rows with the same adapter. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { run } from "./programs.js";
import { markdown, median, spread } from "./report.js";

const sets = ["sst2", "banking77"];
/** The first test rows, so many at most: the peer takes long. */
const most = 1000;
/** Steps of training, after which labels differ from row to row. */
const trained = 60;

/** Each way of predicting, with its flags. */
const ways = {
  f32: { peer: false, flags: [] },
  q8: { peer: false, flags: ["--base-dtype", "q8"] },
  "transformers, rows in order": { peer: true, flags: [] },
  "transformers, sorted by length": { peer: true, flags: ["--sort"] },
};

/**
 * @typedef {object} Predicted
 * @property {number} rows_per_second over tokenisation and arithmetic: all but loading; here by `peft evaluate`, its session's creation included
 * @property {number} wall_seconds of a whole process that writes predictions
 * @property {number} accuracy
 * @property {readonly string[]} labels predicted
 *
 * @typedef {object} Way
 * @property {string} data
 * @property {string} way
 * @property {number} rows
 * @property {Omit<Predicted, "labels">[]} rounds
 * @property {number | null} same share of rows with the label that this program's float32 gives
 */

/**
 * @param {{ model: string, data: string, only: RegExp, python: string | undefined, rounds: number, batch: number, maxLength: number, threads: number, seed: number }} options
 * @returns {Promise<readonly Way[]>}
 */
export async function inference(options) {
  const folder = await mkdtemp(join(tmpdir(), "peft-inference-"));
  try {
    /** @type {Way[]} */
    const all = [];
    for (const data of sets.filter((each) => options.only.test(each))) {
      const adapter = join(folder, data);
      const train = join(options.data, data, "train.jsonl");
      const test = join(folder, `${data}.jsonl`);
      await writeFile(test, (await readFile(join(options.data, data, "test.jsonl"), "utf8")).split("\n", most).join("\n"));
      const sizes = ["--max-length", `${options.maxLength}`, "--threads", `${options.threads}`];
      const flags = ["--model", options.model, "--data", train, "--out", adapter, "--max-steps", `${trained}`, "--seed", `${options.seed}`];
      await run(process.execPath, [peft, "train", ...flags, ...sizes], {}, () => {});
      const found = Object.entries(ways)
        .filter(([, { peer }]) => !peer || options.python !== undefined)
        .map(([way, how]) => ({
          ...{ data, way, how, rows: 0, same: /** @type {number | null} */ (null) },
          rounds: /** @type {Omit<Predicted, "labels">[]} */ ([]),
        }));
      for (let round = 0; round < options.rounds; round++) {
        /** @type {readonly string[]} */
        let reference = [];
        for (const each of found) {
          const { labels, ...told } = each.how.peer
            ? await predictPeer(options, adapter, test, folder, each.how.flags)
            : await predictOurs(options.model, adapter, test, folder, [...sizes, ...each.how.flags]);
          if (each.way === "f32") reference = labels;
          each.rows = labels.length;
          each.same = labels.filter((label, i) => label === reference[i]).length / labels.length;
          each.rounds.push(told);
          console.error(
            `round ${round + 1}  ${data} ${each.way}  ${told.rows_per_second.toFixed(0)} rows/s, ${told.wall_seconds.toFixed(1)} s`,
          );
        }
      }
      all.push(...found.map(({ how: _, ...way }) => way));
    }
    return all;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const peft = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));

/**
 * @param {string} model
 * @param {string} adapter
 * @param {string} rows
 * @param {string} folder
 * @param {readonly string[]} flags
 * @returns {Promise<Predicted>}
 */
async function predictOurs(model, adapter, rows, folder, flags) {
  const output = join(folder, "ours.jsonl");
  const common = ["--model", model, "--adapter", adapter, ...flags];
  const wall_seconds = await run(process.execPath, [peft, "predict", ...common, "--input", rows, "--output", output], {}, () => {});
  let last = "";
  await run(process.execPath, [peft, "evaluate", "--json", ...common, "--data", rows], {}, (line) => {
    last = line;
  });
  const told = JSON.parse(last);
  return { rows_per_second: told.rows / told.seconds, wall_seconds, accuracy: told.metrics.accuracy, labels: await labelsIn(output) };
}

/**
 * @param {{ model: string, python: string | undefined, batch: number, maxLength: number, threads: number }} options
 * @param {string} adapter
 * @param {string} rows
 * @param {string} folder
 * @param {readonly string[]} flags
 * @returns {Promise<Predicted>}
 */
async function predictPeer({ model, python, batch, maxLength, threads }, adapter, rows, folder, flags) {
  const output = join(folder, "peer.jsonl");
  const script = fileURLToPath(new URL("hf_predict.py", import.meta.url));
  const files = ["--model", model, "--adapter", adapter, "--input", rows, "--output", output];
  const sizes = ["--batch", `${batch}`, "--max-length", `${maxLength}`, "--threads", `${threads}`];
  let last = "";
  const wall_seconds = await run(`${python}`, [script, ...files, ...sizes, ...flags], { OMP_NUM_THREADS: `${threads}` }, (line) => {
    last = line;
  });
  const told = JSON.parse(last);
  return { rows_per_second: told.rows_per_second, wall_seconds, accuracy: told.accuracy, labels: await labelsIn(output) };
}

/** @param {string} file */
async function labelsIn(file) {
  const lines = (await readFile(file, "utf8")).trimEnd().split("\n");
  return lines.map((line) => /** @type {string} */ (JSON.parse(line).label));
}

/** @param {readonly Way[]} ways */
export function inferenceTable(ways) {
  const rows = ways.map(({ data, way, rows, rounds, same }) => {
    const ratios = Object.keys(peers).map((peer) => {
      const other = ways.find((each) => each.data === data && each.way === peer);
      return other === undefined
        ? "–"
        : spread(
            rounds.map((each, i) => each.rows_per_second / (other.rounds[i]?.rows_per_second ?? Number.NaN)),
            2,
          );
    });
    return [
      ...[
        `${data}, ${rows} rows`,
        way,
        spread(
          rounds.map((each) => each.rows_per_second),
          0,
        ),
        ...ratios,
      ],
      ...[
        spread(
          rounds.map((each) => each.wall_seconds),
          1,
        ),
        median(rounds.map(({ accuracy }) => accuracy)).toFixed(4),
        `${((same ?? 0) * 100).toFixed(1)} %`,
      ],
    ];
  });
  const head = ["rows", "by", "rows/s", ...Object.values(peers), "whole process, s", "accuracy", "labels as float32's"];
  return markdown(head, rows);
}

/** What rows a second are compared with. */
const peers = { "transformers, rows in order": "ratio to rows in order", "transformers, sorted by length": "ratio to sorted" };
