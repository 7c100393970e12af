/** Where results go: a JSON file, and figures beside it. */
import { mkdir, writeFile } from "node:fs/promises";
import { cpus, totalmem } from "node:os";
import { dirname } from "node:path";

/**
 * Writes `FILE.json` and a `FILE-NAME.svg` for each figure.
 * @param {string} file
 * @param {object} found what was asked and what came out
 * @param {readonly import("./plots.js").Figure[]} [figures]
 */
export async function writeResults(file, found, figures = []) {
  const machine = { processor: cpus()[0]?.model.trim(), cores: cpus().length, memory_bytes: totalmem(), node: process.version };
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, `${JSON.stringify({ machine, ...found }, null, 1)}\n`);
  for (const { name, svg } of figures) {
    const alone = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '); // within a page it needs none
    await writeFile(file.replace(/(\.json)?$/, `-${name}.svg`), `${alone}\n`);
  }
}
