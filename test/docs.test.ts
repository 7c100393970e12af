import { readdir, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { expect, test } from "vitest";
import { compositions, methods } from "../src/methods/index.js";
import { families } from "../src/models/index.js";
import { tasks } from "../src/tasks/index.js";
import { withOptionTables } from "../tools/docs/options.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const docs = (await readdir(join(root, "docs"), { recursive: true })).filter((name) => name.endsWith(".md"));
const pages = ["README.md", "CHANGELOG.md", ...docs.map((name) => join("docs", name))];

test("option tables are those of the schemas (npx vitest run test/docs.test.ts -u makes them anew)", async () => {
  const tables: string[] = [];
  for (const page of pages) {
    const text = await readFile(join(root, page), "utf8");
    tables.push(...[...text.matchAll(/<!-- options: (\S+) -->/g)].map((match) => match[1]!));
    await expect(withOptionTables(text)).toMatchFileSnapshot(join(root, page));
  }
  const composed = compositions.filter(({ config }) => Object.keys(config.shape).length > 0);
  expect(tables.sort()).toEqual([...[...methods, ...composed].map(({ name }) => name), "train"].sort());
});

test("links between pages lead somewhere", async () => {
  const dead: string[] = [];
  for (const page of pages) {
    const text = (await readFile(join(root, page), "utf8")).replace(/```[\s\S]*?```/g, "");
    for (const [, target] of text.matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)) {
      const found = await stat(join(root, dirname(page), target!)).catch(() => undefined);
      if (found === undefined) dead.push(`${page}: ${target}`);
    }
  }
  expect(dead).toEqual([]);
});

test("add-a-method.md shows all of vera.ts, in order, and the example as it is", async () => {
  const page = await readFile(join(root, "docs/add-a-method.md"), "utf8");
  const shown = (language: string): readonly string[] =>
    [...page.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, "g"))].map((match) => match[1]!);
  const lines = (text: string): readonly string[] => text.split("\n").filter((line) => line !== "");
  expect(shown("typescript").flatMap(lines)).toEqual(lines(await readFile(join(root, "src/methods/vera.ts"), "utf8")));
  const example = await readFile(join(root, "examples/own-method.mjs"), "utf8");
  expect(shown("js").length).toBeGreaterThan(0);
  for (const block of shown("js")) expect(example).toContain(block);
});

test("the compatibility page names every method, family and task, and each method has a page", async () => {
  const page = await readFile(join(root, "docs/compatibility.md"), "utf8");
  for (const name of [
    ...methods.map((method) => method.name),
    ...families.flatMap((family) => family.model_types),
    ...tasks.map((task) => task.name),
  ])
    expect(page).toContain(`\`${name}\``);
  expect(docs.filter((name) => name.startsWith("methods")).sort()).toEqual(methods.map(({ name }) => `methods/${name}.md`).sort());
});

test("the TypeScript in README and docs compiles", { timeout: 120_000 }, async () => {
  const blocks = new Map<string, string>();
  for (const page of pages) {
    const text = await readFile(join(root, page), "utf8");
    let block = 0;
    for (const [, code] of text.matchAll(/```ts\n([\s\S]*?)```/g))
      blocks.set(join(root, `${page.replaceAll(/\W/g, "-")}-${++block}.ts`), `${code}\nexport {};\n`);
  }
  expect(blocks.size).toBeGreaterThan(1);
  const config = ts.parseJsonConfigFileContent(ts.readConfigFile(join(root, "tsconfig.json"), ts.sys.readFile).config, ts.sys, root);
  const host = ts.createCompilerHost(config.options);
  const { fileExists, readFile: readSource, getSourceFile } = host;
  host.fileExists = (name) => blocks.has(name) || fileExists(name);
  host.readFile = (name) => blocks.get(name) ?? readSource(name);
  host.getSourceFile = (name, ...rest) => {
    const block = blocks.get(name);
    return block === undefined ? getSourceFile(name, ...rest) : ts.createSourceFile(name, block, ts.ScriptTarget.ES2022);
  };
  const program = ts.createProgram([...blocks.keys()], config.options, host);
  const faults = [...blocks.keys()].flatMap((name) => {
    const source = program.getSourceFile(name)!;
    return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)];
  });
  expect(ts.formatDiagnostics(faults, { ...host, getNewLine: () => "\n" })).toBe("");
});
