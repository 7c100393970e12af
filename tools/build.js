// @ts-check
// Builds dist from nothing and swaps it in when it is whole. With --if-stale: only when a source is newer than dist.
// The command line is bundled, with the worker that it starts beside it: Node takes a tenth of a second to open and link its 260 modules.
import { spawnSync } from "node:child_process";
import { chmodSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildSync } from "esbuild";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
const marker = "dist/cli/main.js";

if (!process.argv.includes("--if-stale") || isStale()) build();

function isStale() {
  const built = statSync(marker, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const sources = readdirSync("src", { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const newest = [...sources.map((entry) => join(entry.parentPath, entry.name)), "package.json", "tsconfig.json", "tsconfig.build.json"];
  return newest.some((path) => !/\.(test|fixture)\.ts$/.test(path) && statSync(path).mtimeMs > built);
}

function build() {
  rmSync("dist.new", { recursive: true, force: true });
  const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
  const { status } = spawnSync(process.execPath, [tsc, "-p", "tsconfig.build.json", "--outDir", "dist.new"], { stdio: "inherit" });
  if (status !== 0) {
    rmSync("dist.new", { recursive: true, force: true });
    process.exit(status ?? 1);
  }
  buildSync({
    entryPoints: ["dist.new/cli/main.js", "dist.new/cli/flags.js", "dist.new/runtime/node-worker.js"], // the bench reads flags as the command line does
    outdir: "dist.new/bundle",
    entryNames: "[name]",
    ...{ bundle: true, splitting: true, packages: "external", sourcemap: true },
    ...{ platform: "node", format: "esm", target: "node20", logLevel: "warning" },
  });
  rmSync("dist.new/cli", { recursive: true });
  renameSync("dist.new/bundle", "dist.new/cli");
  chmodSync("dist.new/cli/main.js", 0o755);
  rmSync("dist", { recursive: true, force: true });
  renameSync("dist.new", "dist");
}
