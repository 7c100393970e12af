import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { writeTinyModel } from "./tiny-folder.fixture.js";

const run = promisify(execFile);
/** A project in which the packed package is installed; .ci/run makes one. */
const project = process.env.PEFT_PACKED_PROJECT;

test.skipIf(project === undefined)("the packed package's command line and entry points work", { timeout: 120_000 }, async () => {
  const folder = await mkdtemp(join(tmpdir(), "peft-packed-"));
  try {
    const model = await writeTinyModel(join(folder, "model"));
    const peft = join(project!, "node_modules/.bin/peft");
    const data = join(project!, "node_modules/peft.js/examples/data/support-train.jsonl");
    const out = join(folder, "adapter");
    await run(peft, ["train", "--model", model, "--data", data, "--max-steps", "3", "--out", out], { cwd: project });
    await run(peft, ["inspect", model], { cwd: project });
    await run(peft, ["quickstart", "--model", model, "--epochs", "1", "--out", join(folder, "quickstart")], { cwd: project });
    const predict = await run(peft, ["predict", "--model", model, "--adapter", out, "where is my parcel?"], { cwd: project });
    expect(JSON.parse(predict.stdout)).toMatchObject({ label: expect.any(String), score: expect.any(Number) });
    const script =
      'const names = async (p) => Object.keys(await import(p)); console.log(JSON.stringify([await names("peft.js"), await names("peft.js/node"), await names("peft.js/methods")]))';
    const entries = await run(process.execPath, ["--input-type=module", "-e", script], { cwd: project });
    const [anywhere, node, methods] = JSON.parse(entries.stdout) as [string[], string[], string[]];
    expect(anywhere).toContain("trainLoop");
    expect(node).toEqual(expect.arrayContaining(["train", "loadModel", "loadAdapter", "pipeline", ...anywhere]));
    expect(methods).toEqual(expect.arrayContaining(["z", "gemm", "zeros", "matchTargets", "tunerFormat"]));
  } finally {
    await rm(folder, { recursive: true });
  }
});
