import { readdirSync, readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const src = join(root, "src");

/** What each folder may import besides itself and errors.ts: design.md's dependency direction. A new folder adds its line. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  core: [],
  ops: ["core"],
  onnx: ["core"],
  io: ["core"],
  runtime: ["core", "onnx"],
  methods: ["core", "ops"],
  data: ["core", "io"],
  models: ["core", "ops", "methods"],
  tasks: ["core", "ops", "methods", "models", "data"],
  adapters: ["core", "io", "methods", "tasks"],
  programs: ["core", "ops", "onnx", "io", "runtime", "methods", "data", "models", "tasks", "adapters"],
  train: ["core", "io", "methods", "data", "models", "tasks", "adapters", "programs"],
  generate: ["core", "io", "methods", "data", "models", "tasks", "adapters", "programs"],
  compare: ["core", "io", "methods", "data", "models", "tasks", "adapters", "programs", "train", "generate"],
};
/** What faces a user may import everything below. */
const surfaces = ["node", "web", "cli", "index", "version"];

interface SourceFile {
  /** From src: `methods/lora.ts`. */
  readonly path: string;
  /** The folder, or the name of a file that stands in src itself. */
  readonly layer: string;
  readonly isTest: boolean;
  /** Files of this project that it imports, from src. */
  readonly local: readonly string[];
  /** Packages and Node built-ins that it imports. */
  readonly packages: readonly string[];
}

const files = readdirSync(src, { recursive: true, encoding: "utf8" })
  .filter((name) => /\.[jt]s$/.test(name))
  .map(readSource);
const byPath = new Map(files.map((file) => [file.path, file]));
const sources = files.filter(({ isTest }) => !isTest);

function readSource(path: string): SourceFile {
  const { importedFiles } = ts.preProcessFile(readFileSync(join(src, path), "utf8"), true, true);
  const names = importedFiles.map(({ fileName }) => fileName);
  return {
    path,
    layer: layerOf(path),
    isTest: /\.(test|fixture)\.ts$/.test(path),
    local: names.flatMap((name) => (name.startsWith(".") ? [sourceOf(relative(src, resolve(src, path, "..", name)))] : [])),
    packages: names.filter((name) => !name.startsWith(".")),
  };
}

function layerOf(path: string): string {
  return path.split("/")[0]!.replace(/\.[jt]s$/, "");
}

/** The source behind an import's name: graph.js stands for graph.ts. */
function sourceOf(name: string): string {
  const typed = name.replace(/\.js$/, ".ts");
  return readdirSync(resolve(src, typed, "..")).includes(typed.split("/").at(-1)!) ? typed : name;
}

/** All files that these ones lead to, themselves included. */
function reached(entries: readonly string[]): readonly SourceFile[] {
  const seen = new Set(entries);
  for (const path of seen) for (const next of byPath.get(path)?.local ?? []) seen.add(next);
  return [...seen].flatMap((path) => byPath.get(path) ?? []);
}

it("sees the sources and their imports", () => {
  expect(sources.length).toBeGreaterThan(60);
  expect(byPath.get("methods/lora.ts")!.local).toContain("ops/linear.ts");
  expect(byPath.get("runtime/node.ts")!.packages).toContain("node:worker_threads");
  expect(reached(["index.ts"]).map(({ path }) => path)).toContain("ops/linear.ts");
});

describe("layers", () => {
  it("import only what lies below them", () => {
    const wrong = sources.flatMap(({ path, layer, local }) =>
      local.flatMap((target) => {
        const other = layerOf(target);
        if (other === layer || other === "errors" || surfaces.includes(layer)) return [];
        return (allowed[layer] ?? []).includes(other) ? [] : [`${path} imports ${target}`];
      }),
    );
    expect(wrong).toEqual([]);
  });

  it("are all known here", () => {
    const known = [...Object.keys(allowed), ...surfaces, "errors"];
    expect([...new Set(sources.map(({ layer }) => layer))].filter((layer) => !known.includes(layer))).toEqual([]);
  });

  it("have no way back up: the table is without cycles", () => {
    const visit = (layer: string, way: readonly string[]): void => {
      expect(way, `${way.join(" → ")} → ${layer}`).not.toContain(layer);
      for (const next of allowed[layer] ?? []) visit(next, [...way, layer]);
    };
    for (const layer of Object.keys(allowed)) visit(layer, []);
  });

  it("of the surface keep to their own", () => {
    const importedBy = (layer: string): readonly string[] => [
      ...new Set(sources.filter((file) => file.layer === layer).flatMap(({ local }) => local.map(layerOf))),
    ];
    expect(importedBy("errors")).toEqual([]);
    expect(importedBy("version")).toEqual([]);
    expect(importedBy("web").filter((each) => !["web", "index", "errors", "io", "runtime"].includes(each))).toEqual([]);
    expect(importedBy("index").filter((each) => ["node", "web", "cli"].includes(each))).toEqual([]);
    expect(importedBy("node").filter((each) => ["web", "cli"].includes(each))).toEqual([]);
    expect(importedBy("cli")).not.toContain("web");
  });

  it("of sources import no tests and no fixtures", () => {
    expect(
      sources.flatMap(({ path, local }) => local.flatMap((to) => (byPath.get(to)?.isTest === false ? [] : [`${path} → ${to}`]))),
    ).toEqual([]);
  });
});

describe("packages", () => {
  const users = (name: RegExp): readonly string[] =>
    sources.flatMap(({ path, packages }) => (packages.some((each) => name.test(each)) ? [path] : []));

  it("of ONNX Runtime are imported in runtime/ only", () => {
    expect(users(/^onnxruntime-/).length).toBeGreaterThan(1);
    expect(users(/^onnxruntime-/).filter((path) => !path.startsWith("runtime/"))).toEqual([]);
  });

  it.each(["index.ts", "web/index.ts", "methods/public.ts"])("of Node are not reached from %s", (entry) => {
    const builtin = new Set(builtinModules);
    const faults = reached([entry]).flatMap(({ path, packages }) =>
      packages.flatMap((name) =>
        name.startsWith("node:") || builtin.has(name) || name === "onnxruntime-node" ? [`${path} imports ${name}`] : [],
      ),
    );
    expect(faults).toEqual([]);
  });

  it("are all in package.json's dependencies", () => {
    const { dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { dependencies: Record<string, string> };
    const packages = new Set(sources.flatMap((file) => file.packages).filter((name) => !name.startsWith("node:")));
    const names = [...packages].map((name) => name.split("/", name.startsWith("@") ? 2 : 1).join("/"));
    expect([...new Set(names)].filter((name) => !(name in dependencies))).toEqual([]);
    expect(Object.keys(dependencies).filter((name) => !names.includes(name))).toEqual([]);
  });
});

describe("files", () => {
  it("have 400 lines at most", () => {
    const all = ["src", "test", "tools", "examples"].flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, encoding: "utf8" }).map((name) => join(folder, name)),
    );
    const code = all.filter((name) => /\.(ts|js|mjs|py)$/.test(name) && !/(^|\/)(golden|node_modules)\/.*\.(json|safetensors)$/.test(name));
    const long = code.flatMap((name) => {
      const lines = readFileSync(join(root, name), "utf8").split("\n").length - 1;
      return lines > 400 ? [`${name}: ${lines}`] : [];
    });
    expect(code.length).toBeGreaterThan(100);
    expect(long).toEqual([]);
  });
});
