import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { describe, expect, it } from "vitest";
import { looksOf, spread } from "./plots.js";
import { markdownReport } from "./report.js";
import { htmlReport } from "./report-html.js";
import { madeUpComparison } from "./summary.fixture.js";

const places = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/usr/bin/google-chrome-stable"];
const browserPath = [process.env.CHROME_PATH, ...places].find((path) => path !== undefined && existsSync(path));
const comparison = madeUpComparison();

describe("the Markdown report", () => {
  const text = markdownReport(comparison);
  it("has the recommendation, all tables, the cautions and the setup", () => {
    for (const part of [...comparison.findings.recommendation, ...comparison.findings.sentences]) expect(text).toContain(part);
    for (const title of ["Tests of pairs", "Learning curves", "Groups", "Worst mistakes", "To repeat it"])
      expect(text).toContain(`## ${title}`);
    expect(text).toContain("fuse took no part: it composes adapters");
    expect(text).toContain("The budget had no room for 1 cell: 60 rows with seed 2");
    expect(text).toContain("Energy of training: estimated: CPU seconds at 12 W a core");
    expect(text).toContain("lora: the highest learning rate tried was the best");
    expect(text).toContain('"drop_order"');
  });
});

it("labels stand where they belong, apart from each other", () => {
  expect(spread([3, 1, 2], 0.5)).toEqual([3, 1, 2]);
  expect(spread([5, 5, 0], 2)).toEqual([4, 6, 0]);
  expect(spread([1, 1.2, 1.1, 9], 1)).toEqual([0.1, 2.1, 1.1, 9].map((height) => expect.closeTo(height, 9)));
});

describe("the HTML report", () => {
  const html = htmlReport(comparison);

  it("is one file: nothing in it leads elsewhere, and texts of rows are escaped", () => {
    expect(html).not.toMatch(/<script|\bsrc=|@import|url\(|<link(?! rel="icon" href="data:,")/);
    expect(html).toContain("&lt;script&gt;alert(");
    expect(html).toContain("hats &amp; &lt;b&gt;coats");
  });

  it("has a text for each figure", () => {
    const figures = html.match(/<figure>/g)!;
    expect(figures.length).toBeGreaterThanOrEqual(7);
    expect(html.match(/ role="img"/g)).toHaveLength(figures.length);
    expect(html.match(/<figcaption>[^<]{20,}/g)).toHaveLength(figures.length);
  });

  it("gives nine methods looks that differ", () => {
    const looks = [...looksOf([..."abcdefghi"]).values()].map(({ colour, symbol }) => `${colour} ${symbol}`);
    expect(new Set(looks).size).toBe(9);
  });

  it("loads nothing, logs nothing, fits a phone and has no serious accessibility findings", { timeout: 120_000 }, async ({ skip }) => {
    if (browserPath === undefined) {
      if (process.env.PEFT_REQUIRE_BROWSER === "1")
        throw new Error(`PEFT_REQUIRE_BROWSER=1, and there is no Chromium: ${places.join(", ")}`);
      skip("no Chromium found; install it, or name one in CHROME_PATH");
    }
    const folder = await mkdtemp(join(tmpdir(), "report-"));
    const page = join(folder, "report.html");
    await writeFile(page, html);
    const browser = await chromium.launch({ executablePath: browserPath!, args: ["--headless", "--no-sandbox", "--disable-gpu"] });
    try {
      for (const width of [390, 1280]) {
        const tab = await browser.newPage({ viewport: { width, height: 844 } });
        const faults: string[] = [];
        tab.on("pageerror", (error) => faults.push(String(error)));
        tab.on("console", (message) => faults.push(message.text()));
        tab.on("request", (request) => {
          if (request.url() !== pathToFileURL(page).href && !request.url().startsWith("data:")) faults.push(request.url());
        });
        await tab.goto(pathToFileURL(page).href);
        expect(await tab.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(width);
        await tab.addScriptTag({ path: createRequire(import.meta.url).resolve("axe-core/axe.min.js") });
        const found = (await tab.evaluate("axe.run()")) as { violations: { id: string; impact: string; nodes: { html: string }[] }[] };
        const serious = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical");
        expect(serious.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`)).toEqual([]);
        expect(faults).toEqual([]);
        await tab.close();
      }
    } finally {
      await browser.close();
      await rm(folder, { recursive: true });
    }
  });
});
