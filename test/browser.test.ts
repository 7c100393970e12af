import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { chromium } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { memoryFiles } from "../src/io/memory-files.js";
import { nodeRuntime } from "../src/runtime/node.js";
import { fiveSteps } from "./five-steps.fixture.js";
import { jsonBytes, tinyModelFiles, tinyRows } from "./tiny-model.fixture.js";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const places = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/usr/bin/google-chrome-stable"];
const browserPath = [process.env.CHROME_PATH, ...places].find((path) => path !== undefined && existsSync(path));
const required = process.env.PEFT_REQUIRE_BROWSER === "1";
const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
const quiet = ["--disable-component-update", "--disable-sync"];
const model = tinyModelFiles();
const rows = tinyRows(60);
const ortFiles = /^\/ort\/(ort-wasm-simd-threaded\.(?:mjs|wasm))$/;
const types: Readonly<Record<string, string>> = { mjs: "text/javascript", js: "text/javascript", wasm: "application/wasm" };

let server: Server;
let page = "";

beforeAll(async () => {
  const script = (await bundle("browser-page.fixture.ts")).outputFiles[0]!.contents;
  const served: Readonly<Record<string, Uint8Array>> = {
    "/": new TextEncoder().encode('<!doctype html><meta charset="utf-8"><script type="module" src="page.js"></script>'),
    "/page.js": script,
    "/rows.json": jsonBytes(rows),
    ...Object.fromEntries(Object.entries(model).map(([name, bytes]) => [`/model/${name}`, bytes])),
  };
  server = createServer(async ({ url = "" }, response) => {
    const ort = ortFiles.exec(url)?.[1];
    const bytes = ort === undefined ? served[url] : await readFile(here(`../node_modules/onnxruntime-web/dist/${ort}`));
    response.setHeader("content-type", types[url.split(".").at(-1)!] ?? (url === "/" ? "text/html" : "application/octet-stream"));
    response.statusCode = bytes === undefined ? 404 : 200;
    response.end(bytes);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  page = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
});

afterAll(() => new Promise((resolve) => server.close(resolve)));

test("five steps in Chromium on WebAssembly give Node's losses", { timeout: 120_000 }, async ({ skip }) => {
  if (browserPath === undefined) {
    if (required) throw new Error(`PEFT_REQUIRE_BROWSER=1, and there is no Chromium: ${places.join(", ")}, or CHROME_PATH`);
    skip("no Chromium found; install it, or name one in CHROME_PATH");
  }
  const runtime = nodeRuntime({ threads: 1 });
  const expected = await fiveSteps(memoryFiles("tiny", model), runtime, rows).finally(() => runtime.close());
  const browser = await chromium.launch({ executablePath: browserPath!, args: [...flags, ...quiet] });
  try {
    const tab = await browser.newPage();
    const faults: string[] = [];
    tab.on("pageerror", (error) => faults.push(String(error)));
    tab.on("console", (message) => message.type() === "error" && faults.push(message.text()));
    await tab.goto(page);
    await tab
      .waitForFunction(() => "trainHere" in globalThis, undefined, { timeout: 30_000 })
      .catch((error: unknown) => {
        throw new Error(`the page's script did not start: ${faults.join("; ")}`, { cause: error });
      });
    const actual = await tab.evaluate(() => globalThis.trainHere());
    expect(actual.losses).toHaveLength(5);
    expect(new Set(expected.losses).size).toBe(5);
    for (const [i, loss] of expected.losses.entries()) {
      expect(Math.abs(actual.losses[i]! - loss)).toBeLessThan(1e-4);
      expect(Math.abs(actual.gradNorms[i]! / expected.gradNorms[i]! - 1)).toBeLessThan(1e-3);
    }
    expect(Math.abs(actual.evalLoss! - expected.evalLoss!)).toBeLessThan(1e-4);
  } finally {
    await browser.close();
  }
});

test.each(["../src/index.ts", "../src/web/index.ts"])("%s bundles for browsers without a Node built-in", async (entry) => {
  const { metafile, outputFiles } = await bundle(entry);
  const asked = Object.values(metafile.inputs).flatMap(({ imports }) => imports.filter(({ external }) => external === true));
  expect(asked.map(({ path }) => path).filter((path) => path !== "<runtime>")).toEqual([]); // esbuild's own helpers
  expect(outputFiles[0]!.contents.length).toBeLessThan(2_000_000);
});

function bundle(entry: string) {
  return build({
    entryPoints: [here(entry)],
    bundle: true,
    minify: true,
    format: "esm",
    platform: "browser",
    target: "es2022",
    write: false,
    metafile: true,
    logLevel: "silent",
  });
}
